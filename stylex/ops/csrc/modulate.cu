// Input modulation x * s with a cast, its adjoint with the sum for s in the same pass, its tangent.
#include "walk.cuh"

namespace stylex {
namespace {

constexpr int kRows = 4;  // that a thread walks

// Styles of a place's channels.
template <bool LAST, int V>
__device__ inline void styles(const float* s, const Place& at, int channels, float (&to)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = s[at.sample * channels + at.channel + (LAST ? i : 0)];
}

template <typename From, typename To, bool LAST, int V>
__global__ void forward(Walk<LAST, V> walk, const From* x, const float* s, To* result) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;
  float scale[V];
  styles<LAST, V>(s, at, grid.channels, scale);
  for (int row = at.first_row; row < at.last_row; ++row) {
    const long long first =
        element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column);
    float values[V];
    read<V>(x + first, values);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] *= scale[i];
    write<V>(result + first, values);
  }
}

template <typename From, typename To, bool LAST, int V>
__global__ void tangent(Walk<LAST, V> walk, const From* vx, const float* vs, const From* x,
                        const float* s, To* result) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;
  float scale[V], v_scale[V];
  styles<LAST, V>(s, at, grid.channels, scale);
  styles<LAST, V>(vs, at, grid.channels, v_scale);
  for (int row = at.first_row; row < at.last_row; ++row) {
    const long long first =
        element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column);
    float values[V], inputs[V];
    read<V>(vx + first, values);
    read<V>(x + first, inputs);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = values[i] * scale[i] + inputs[i] * v_scale[i];
    write<V>(result + first, values);
  }
}

template <typename From, typename To, bool LAST, int V>
__global__ void adjoint(Walk<LAST, V> walk, const To* gy, const From* x, const float* s, From* gx,
                        float* partials) {
  const Place at = walk.place();
  const Grid& grid = walk.grid;
  float sums[V];
  clear(sums);
  if (at.live) {
    float scale[V];
    styles<LAST, V>(s, at, grid.channels, scale);
    for (int row = at.first_row; row < at.last_row; ++row) {
      const long long first =
          element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column);
      float values[V], inputs[V];
      read<V>(gy + first, values);
      read<V>(x + first, inputs);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        sums[i] += values[i] * inputs[i];
        values[i] *= scale[i];
      }
      write<V>(gx + first, values);
    }
  }
  block_sum<LAST, V>(walk, at, sums, partials);
}

// Calls `run` with (a value of either type, layout, vector length) as constants.
template <typename Run>
void dispatch(Grid grid, int from, int to, bool allowed, Run run) {
  with_type(from, [&](auto first) {
    with_type(to, [&](auto second) {
      constexpr int kSmaller =
          sizeof(first) < sizeof(second) ? sizeof(first) : sizeof(second);
      constexpr int kVector = 16 / kSmaller;
      if (grid.channels_last)
        with_vectors<kVector>(grid.channels, allowed,
                              [&](auto v) { run(first, second, std::true_type(), v); });
      else
        with_vectors<kVector>(grid.width, allowed,
                              [&](auto v) { run(first, second, std::false_type(), v); });
    });
  });
}

}  // namespace
}  // namespace stylex

using namespace stylex;

void modulate(Grid grid, int from, int to, const void* x, const float* s, void* result,
              cudaStream_t stream) {
  dispatch(grid, from, to, aligned(x) && aligned(result), [&](auto a, auto b, auto last, auto v) {
    using From = decltype(a);
    using To = decltype(b);
    const Walk<last(), v()> walk(grid, kRows);
    launch(forward<From, To, last(), v()>, walk.blocks(), walk.block(), stream, walk,
           static_cast<const From*>(x), s, static_cast<To*>(result));
  });
}

void modulate_jvp(Grid grid, int from, int to, const void* vx, const float* vs, const void* x,
                  const float* s, void* result, cudaStream_t stream) {
  const bool allowed = aligned(vx) && aligned(x) && aligned(result);
  dispatch(grid, from, to, allowed, [&](auto a, auto b, auto last, auto v) {
    using From = decltype(a);
    using To = decltype(b);
    const Walk<last(), v()> walk(grid, kRows);
    launch(tangent<From, To, last(), v()>, walk.blocks(), walk.block(), stream, walk,
           static_cast<const From*>(vx), vs, static_cast<const From*>(x), s,
           static_cast<To*>(result));
  });
}

void modulate_vjp(Grid grid, int from, int to, const void* gy, const void* x, const float* s,
                  void* gx, float* partials, cudaStream_t stream) {
  dispatch(grid, from, to, true, [&](auto a, auto b, auto last, auto v) {
    using From = decltype(a);
    using To = decltype(b);
    const auto walk = Walk<last(), v()>::summing(grid);
    launch(adjoint<From, To, last(), v()>, walk.blocks(), walk.block(), stream, walk,
           static_cast<const To*>(gy), static_cast<const From*>(x), s, static_cast<From*>(gx),
           partials);
  });
}

int modulate_partials(Grid grid, int from, int to) {
  int found = 0;
  dispatch(grid, from, to, true, [&](auto, auto, auto last, auto v) {
    found = Walk<last(), v()>::summing(grid).partials();
  });
  return found;
}
