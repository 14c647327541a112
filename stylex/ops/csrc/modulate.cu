// Input modulation x * s with a cast, and its adjoint with the sum for s in the same pass.
#include "walk.cuh"

namespace stylex {
namespace {

constexpr int kRows = 4;  // that a thread walks

template <typename From, typename To, bool LAST, int V>
__global__ void forward(Walk<LAST, V> walk, const From* x, const float* s, To* result) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = walk.grid;
  float scale[V];
#pragma unroll
  for (int i = 0; i < V; ++i)
    scale[i] = s[at.sample * grid.channels + at.channel + (LAST ? i : 0)];
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
__global__ void adjoint(Walk<LAST, V> walk, const To* gy, const From* x, const float* s, From* gx,
                        float* partials) {
  const Place at = walk.place();
  const Grid& grid = walk.grid;
  float sums[V];
  clear(sums);
  if (at.live) {
    float scale[V];
#pragma unroll
    for (int i = 0; i < V; ++i)
      scale[i] = s[at.sample * grid.channels + at.channel + (LAST ? i : 0)];
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

void modulate_vjp(Grid grid, int from, int to, const void* gy, const void* x, const float* s,
                  void* gx, float* partials, cudaStream_t stream) {
  dispatch(grid, from, to, true, [&](auto a, auto b, auto last, auto v) {
    using From = decltype(a);
    using To = decltype(b);
    const Walk<last(), v()> walk(grid, kRows);
    launch(adjoint<From, To, last(), v()>, walk.blocks(), walk.block(), stream, walk,
           static_cast<const To*>(gy), static_cast<const From*>(x), s, static_cast<From*>(gx),
           partials);
  });
}

int modulate_partials(Grid grid, int from, int to) {
  int found = 0;
  dispatch(grid, from, to, true, [&](auto, auto, auto last, auto v) {
    found = Walk<last(), v()>(grid, kRows).partials();
  });
  return found;
}
