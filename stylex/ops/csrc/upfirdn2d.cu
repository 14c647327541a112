// Resampling with a finite impulse response, in one pass and without stored zeros.
#include "walk.cuh"

namespace stylex {
namespace {

constexpr int kWalkRows = 16;  // rows that a thread of a four-tap kernel walks

// Floor of a / b, for positive b.
__device__ inline int floor_div(int a, int b) { return (a >= 0 ? a : a - b + 1) / b; }

// Four taps per axis, no zero insertion: every input row is filtered along its columns once and
// kept in registers for the output rows that need it.
template <typename T, bool LAST, int V, int DOWN>
__global__ void four_taps(Walk<LAST, V> walk, Upfirdn2d call, const T* x, T* y) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;  // of the result
  float tap[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) tap[k] = call.filter[call.flip ? 3 - k : k];

  auto filtered_row = [&](int row, float(&to)[V]) {
    clear(to);
    if (row < 0 || row >= call.input.height) return;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = at.column * DOWN + k - call.before_x;
      if (column < 0 || column >= call.input.width) continue;
      float values[V];
      read<V>(x + element<LAST>(at, grid.channels, call.input.height, call.input.width, row, column),
              values);
#pragma unroll
      for (int i = 0; i < V; ++i) to[i] += tap[k] * values[i];
    }
  };

  float rows[4][V];
  const int start = at.first_row * DOWN - call.before_y;
#pragma unroll
  for (int k = 0; k < 4 - DOWN; ++k) filtered_row(start + k, rows[k]);
  for (int row = at.first_row; row < at.last_row; ++row) {
    const int first = row * DOWN - call.before_y;
#pragma unroll
    for (int k = 4 - DOWN; k < 4; ++k) filtered_row(first + k, rows[k]);
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      sum[i] = 0.f;
#pragma unroll
      for (int k = 0; k < 4; ++k) sum[i] += tap[k] * rows[k][i];
      sum[i] *= call.gain;
    }
    write<V>(y + element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column), sum);
#pragma unroll
    for (int k = 0; k + DOWN < 4; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) rows[k][i] = rows[k + DOWN][i];
  }
}

// Four taps per axis, one zero inserted after every sample: two of them meet a sample on each axis.
// A filtered input row serves four output rows; two are kept in registers.
template <typename T, bool LAST, int V>
__global__ void four_taps_up(Walk<LAST, V> walk, Upfirdn2d call, const T* x, T* y) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;
  const int left = at.column - call.before_x;  // in upsampled columns
  const int first_column = -floor_div(-left, 2);
  const int phase = first_column * 2 - left;  // tap of the first sample: 0 or 1
  float tap[4], near[2];
#pragma unroll
  for (int k = 0; k < 4; ++k) tap[k] = call.filter[call.flip ? 3 - k : k];
  near[0] = phase ? tap[1] : tap[0];
  near[1] = phase ? tap[3] : tap[2];

  auto filtered_row = [&](int row, float(&to)[V]) {
    clear(to);
    const bool row_there = row >= 0 && row < call.input.height;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int column = first_column + k;
      float values[V];
      read_if<V>(row_there && column >= 0 && column < call.input.width,
                 x + element<LAST>(at, grid.channels, call.input.height, call.input.width, row, column),
                 values);
#pragma unroll
      for (int i = 0; i < V; ++i) to[i] += near[k] * values[i];
    }
  };

  float above[V], below[V];
  int from = -floor_div(-(at.first_row - call.before_y), 2);  // input row in `above`
  filtered_row(from, above);
  filtered_row(from + 1, below);
  for (int row = at.first_row; row < at.last_row; ++row) {
    const int top = row - call.before_y, wanted = -floor_div(-top, 2);
    if (wanted != from) {
      from = wanted;
#pragma unroll
      for (int i = 0; i < V; ++i) above[i] = below[i];
      filtered_row(from + 1, below);
    }
    const bool odd = from * 2 != top;
    const float first = (odd ? tap[1] : tap[0]) * call.gain;
    const float second = (odd ? tap[3] : tap[2]) * call.gain;
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; ++i) sum[i] = first * above[i] + second * below[i];
    write<V>(y + element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column), sum);
  }
}

// Any filter and factors. Only the taps that meet a sample, not an inserted zero, are visited.
template <typename T, bool LAST, int V>
__global__ void any_taps(Walk<LAST, V> walk, Upfirdn2d call, const T* x, T* y) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;
  const int left = at.column * call.down_x - call.before_x;  // in upsampled columns
  const int first_column = -floor_div(-left, call.up_x);     // first sample at or after it
  for (int row = at.first_row; row < at.last_row; ++row) {
    const int top = row * call.down_y - call.before_y;
    const int first_row = -floor_div(-top, call.up_y);
    float sum[V];
    clear(sum);
    for (int from = first_row; from * call.up_y - top < call.taps_y; ++from) {
      if (from < 0 || from >= call.input.height) continue;
      const int ky = from * call.up_y - top, a = call.flip ? call.taps_y - 1 - ky : ky;
      for (int column = first_column; column * call.up_x - left < call.taps_x; ++column) {
        if (column < 0 || column >= call.input.width) continue;
        const int kx = column * call.up_x - left, b = call.flip ? call.taps_x - 1 - kx : kx;
        const float weight =
            call.separable ? call.filter[a] * call.filter[b] : call.filter[a * call.taps_x + b];
        float values[V];
        read<V>(x + element<LAST>(at, grid.channels, call.input.height, call.input.width, from, column),
                values);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += weight * values[k];
      }
    }
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] *= call.gain;
    write<V>(y + element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column), sum);
  }
}

template <typename T, bool LAST, int V>
void run(const Upfirdn2d& call, const void* from, void* to, cudaStream_t stream) {
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  Grid grid = call.input;
  grid.height = call.height;
  grid.width = call.width;
  const bool four = call.separable && call.taps_x == 4;
  const bool same_up = call.up_y == call.up_x, same_down = call.down_y == call.down_x;
  const int up = same_up ? call.up_x : 0, down = same_down ? call.down_x : 0;
  const bool walks = four && ((up == 1 && (down == 1 || down == 2)) || (up == 2 && down == 1));
  const Walk<LAST, V> walk(grid, walks ? kWalkRows : 1, kFilterLanes);
  const dim3 blocks = walk.blocks(), block = walk.block();
  if (four && up == 1 && down == 1)
    launch(four_taps<T, LAST, V, 1>, blocks, block, stream, walk, call, x, y);
  else if (four && up == 1 && down == 2)
    launch(four_taps<T, LAST, V, 2>, blocks, block, stream, walk, call, x, y);
  else if (walks)
    launch(four_taps_up<T, LAST, V>, blocks, block, stream, walk, call, x, y);
  else
    launch(any_taps<T, LAST, V>, blocks, block, stream, walk, call, x, y);
}

}  // namespace
}  // namespace stylex

using namespace stylex;

void upfirdn2d(const Upfirdn2d* call, const void* x, void* y, cudaStream_t stream) {
  with_type(call->type, [&](auto type) {
    using T = decltype(type);
    if (call->input.channels_last)
      with_vectors<16 / sizeof(T)>(call->input.channels, aligned(x) && aligned(y), [&](auto v) {
        run<T, true, v()>(*call, x, y, stream);
      });
    else
      run<T, false, 1>(*call, x, y, stream);
  });
}
