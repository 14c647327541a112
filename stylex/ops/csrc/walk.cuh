// How a thread walks an activation tensor, and how a block sums what its threads found.
//
// A thread owns a vector of V neighbouring elements (16 bytes: channels in NHWC, columns in NCHW)
// and walks it down `rows` rows. Without nvcc the same source compiles as plain C++ against
// emulation.h, which a test supplies to run the kernels on a computer without a GPU.
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
template <typename... P, typename... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... arguments) {
  kernel<<<grid, block, 0, stream>>>(arguments...);
}
#else
#include "emulation.h"
#endif

namespace stylex {

constexpr int kThreads = 128;
constexpr int kFullGpu = 1024;   // blocks that keep a large GPU busy
constexpr int kFilterLanes = 8;  // vectors per block of a filter: 128 bytes, the rest for columns

template <typename T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Vector {
  T at[V];
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
template <typename T> __device__ T from_float(float value);
template <> __device__ inline float from_float<float>(float value) { return value; }
template <> __device__ inline __half from_float<__half>(float value) { return __float2half_rn(value); }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <int V, typename T>
__device__ inline void read(const T* from, float (&to)[V]) {
  const Vector<T, V> vector = *reinterpret_cast<const Vector<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = to_float(vector.at[i]);
}

// As `read`, but zeros where there is nothing: a predicate, not a branch, so that loads can overlap.
template <int V, typename T>
__device__ inline void read_if(bool there, const T* from, float (&to)[V]) {
  Vector<T, V> vector;
#pragma unroll
  for (int i = 0; i < V; ++i) vector.at[i] = from_float<T>(0.f);
  if (there) vector = *reinterpret_cast<const Vector<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = to_float(vector.at[i]);
}

template <int V, typename T>
__device__ inline void write(T* to, const float (&from)[V]) {
  Vector<T, V> vector;
#pragma unroll
  for (int i = 0; i < V; ++i) vector.at[i] = from_float<T>(from[i]);
  *reinterpret_cast<Vector<T, V>*>(to) = vector;
}

template <int V>
__device__ inline void clear(float (&values)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = 0.f;
}

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Where a walk stands: its sample, first channel, first column, rows; `live` if there is any.
struct Place {
  int sample, channel, column, first_row, last_row;
  int tile;  // number of this block among those of the same channels and sample
  bool live;
};

// Launch shape of a walk over a grid, and each thread's place in it.
template <bool LAST, int V>
struct Walk {
  Grid grid;
  int rows;        // that each thread walks
  int most_lanes;  // neighbouring vectors per block: fewer leave room for neighbouring columns
  int lane_tiles;  // blocks along the vectors' axis

  Walk(Grid over, int rows_each, int lanes_at_most = 32)
      : grid(over), rows(rows_each), most_lanes(lanes_at_most) {
    lane_tiles = ceil_div((LAST ? grid.channels : grid.width) / V, lanes());
  }
  // For a walk that leaves partial sums: long, so that they are few, while blocks fill a GPU.
  static Walk summing(Grid over) {
    Walk walk(over, 16);
    for (; walk.rows > 4; walk.rows /= 2) {
      const dim3 all = walk.blocks();
      if (static_cast<long long>(all.x) * all.y * all.z >= kFullGpu) break;
    }
    return walk;
  }
  int lanes() const {
    const int vectors = (LAST ? grid.channels : grid.width) / V;
    int found = 1;
    while (found < vectors && found < most_lanes) found *= 2;
    return found;
  }
  dim3 block() const { return dim3(lanes(), kThreads / lanes()); }
  dim3 blocks() const {
    const int groups = kThreads / lanes();
    if (LAST)
      return dim3(lane_tiles * ceil_div(grid.width, groups), ceil_div(grid.height, rows), grid.batch);
    return dim3(lane_tiles * grid.channels, ceil_div(grid.height, rows * groups), grid.batch);
  }
  int partials() const {
    const dim3 all = blocks();
    return all.y * (LAST ? all.x / lane_tiles : lane_tiles);
  }
  __device__ Place place() const {
    Place at;
    const int lane_tile = blockIdx.x % lane_tiles, other = blockIdx.x / lane_tiles;
    const int vector = (lane_tile * blockDim.x + threadIdx.x) * V;
    at.sample = blockIdx.z;
    at.channel = LAST ? vector : other;
    at.column = LAST ? other * blockDim.y + threadIdx.y : vector;
    at.first_row = (LAST ? blockIdx.y : blockIdx.y * blockDim.y + threadIdx.y) * rows;
    at.last_row = at.first_row + rows < grid.height ? at.first_row + rows : grid.height;
    at.tile = blockIdx.y + gridDim.y * (LAST ? other : lane_tile);
    at.live = at.channel < grid.channels && at.column < grid.width && at.first_row < grid.height;
    return at;
  }
};

// Element of a tensor with this height and width, at a place's sample and channel.
template <bool LAST>
__device__ inline long long element(
    const Place& at, int channels, int height, int width, int row, int column) {
  return LAST ? ((static_cast<long long>(at.sample) * height + row) * width + column) * channels +
                    at.channel
              : ((static_cast<long long>(at.sample) * channels + at.channel) * height + row) * width +
                    column;
}

// Sums over the threads of a block that share a channel; writes partials[tile, sample, channel].
// A fixed tree, so that the result does not depend on the order in which threads run.
template <bool LAST, int V>
__device__ inline void block_sum(
    const Walk<LAST, V>& walk, const Place& at, const float (&mine)[V], float* partials) {
  constexpr int kWide = LAST ? V : 1;
  __shared__ float sums[kWide][kThreads];  // no bank conflicts
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  __syncthreads();  // before an earlier call's sums are overwritten
  if (LAST) {
#pragma unroll
    for (int i = 0; i < V; ++i) sums[i % kWide][thread] = mine[i];
  } else {
    float all = 0.f;
#pragma unroll
    for (int i = 0; i < V; ++i) all += mine[i];
    sums[0][thread] = all;
  }
  __syncthreads();
  const int least = LAST ? blockDim.x : 1;
  for (int half = kThreads / 2; half >= least; half /= 2) {
    if (thread < half)
#pragma unroll
      for (int i = 0; i < kWide; ++i) sums[i][thread] += sums[i][thread + half];
    __syncthreads();
  }
  if (thread >= least || at.channel >= walk.grid.channels) return;
  float* to = partials +
              (static_cast<long long>(at.tile) * walk.grid.batch + at.sample) * walk.grid.channels +
              at.channel;
#pragma unroll
  for (int i = 0; i < kWide; ++i) to[i] = sums[i][thread];
}

// Whether a pointer may be read 16 bytes at a time.
inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Calls `run` with the vector length: V if the axis divides by it and all pointers allow it, else 1.
template <int V, typename Run>
void with_vectors(int size, bool allowed, Run run) {
  if (allowed && size % V == 0)
    run(std::integral_constant<int, V>());
  else
    run(std::integral_constant<int, 1>());
}

// Calls `run` with a value of an activation's type.
template <typename Run>
void with_type(int type, Run run) {
  if (type == FLOAT32)
    run(float());
  else if (type == FLOAT16)
    run(__half());
  else
    run(__nv_bfloat16());
}

}  // namespace stylex
