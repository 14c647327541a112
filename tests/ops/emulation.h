// Runs the kernels on a computer without a GPU: every thread of a block is a fiber, and
// __syncthreads hands over to the next one. Slow and exact in its order; for tests only.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#define __global__
#define __device__
#define __shared__ static

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulation {

constexpr size_t kStack = 256 * 1024;
inline ucontext_t scheduler;
inline std::vector<ucontext_t> fibers;
inline std::vector<char> stacks;
inline std::vector<char> finished;
inline size_t current;
inline std::function<void()> body;

inline void enter() {
  body();
  finished[current] = 1;
}

inline void run_block(dim3 block) {
  const size_t count = static_cast<size_t>(block.x) * block.y * block.z;
  fibers.resize(count);
  stacks.resize(count * kStack);
  finished.assign(count, 0);
  for (size_t i = 0; i < count; ++i) {
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = stacks.data() + i * kStack;
    fibers[i].uc_stack.ss_size = kStack;
    fibers[i].uc_link = &scheduler;
    makecontext(&fibers[i], enter, 0);
  }
  for (bool any = true; any;) {
    any = false;
    for (current = 0; current < count; ++current) {
      if (finished[current]) continue;
      any = true;
      threadIdx = {static_cast<unsigned>(current % block.x),
                   static_cast<unsigned>(current / block.x % block.y),
                   static_cast<unsigned>(current / block.x / block.y)};
      swapcontext(&scheduler, &fibers[current]);
    }
  }
}

}  // namespace emulation

inline void __syncthreads() {
  swapcontext(&emulation::fibers[emulation::current], &emulation::scheduler);
}

template <typename... P, typename... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t, A... arguments) {
  gridDim = grid;
  blockDim = block;
  emulation::body = [=] { kernel(arguments...); };
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        emulation::run_block(block);
      }
}
