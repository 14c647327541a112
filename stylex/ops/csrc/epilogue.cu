// What follows a convolution, in one pass: blur, demodulate, add noise and bias, leaky ReLU, clamp.
//
// With the mask of y held fixed, the epilogue is linear in each of x, demodulation, bias and
// strength. Its adjoint (vjp) and its tangent (jvp) are each other's derivatives, so these three
// kernels are closed under differentiation.
#include "walk.cuh"

namespace stylex {
namespace {

constexpr int kPlainRows = 4, kBlurRows = 16;  // rows a thread walks

// A blur's taps in registers. The input of an output row o spans the rows o - before ... + TAPS - 1.
template <int TAPS>
struct Blur {
  float tap[TAPS];
  int before;
  __device__ Blur(const float* taps, float gain, bool adjoint) {
    if constexpr (TAPS == 1) {
      tap[0] = 1.f;
      before = 0;
    } else {
      const float root = sqrtf(gain);  // half of the gain on either axis
#pragma unroll
      for (int k = 0; k < TAPS; ++k) tap[k] = root * taps[adjoint ? k : TAPS - 1 - k];
      before = adjoint ? TAPS - 2 : 1;
    }
  }
};

// One input row, blurred along the columns around a place. `source` reads an element's vector, zeros
// where there is none, and is told which element lies at the place itself.
template <int TAPS, int V, typename Source>
__device__ inline void blur_row(
    const Blur<TAPS>& blur, const Source& source, const Place& at, int row, float (&to)[V]) {
  clear(to);
  const bool row_there = row >= 0 && row < source.height;
#pragma unroll
  for (int k = 0; k < TAPS; ++k) {
    const int column = at.column + k - blur.before;
    const bool there = row_there && column >= 0 && column < source.width;
    float values[V];
    source(at, row, column, there, k == blur.before, values);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] += TAPS == 1 ? values[i] : blur.tap[k] * values[i];
  }
}

// Walks the output rows of a place; `result(row, values)` takes each one's blurred vector.
template <int TAPS, int V, typename Source, typename Result>
__device__ inline void walk_rows(
    const Blur<TAPS>& blur, const Source& source, const Place& at, const Result& result) {
  float rows[TAPS][V];
#pragma unroll
  for (int k = 0; k < TAPS - 1; ++k)
    blur_row<TAPS, V>(blur, source, at, at.first_row - blur.before + k, rows[k]);
  for (int row = at.first_row; row < at.last_row; ++row) {
    blur_row<TAPS, V>(blur, source, at, row - blur.before + TAPS - 1, rows[TAPS - 1]);
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      sum[i] = TAPS == 1 ? rows[0][i] : 0.f;
      if constexpr (TAPS > 1) {
#pragma unroll
        for (int k = 0; k < TAPS; ++k) sum[i] += blur.tap[k] * rows[k][i];
      }
    }
    result(row, sum);
#pragma unroll
    for (int k = 0; k + 1 < TAPS; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) rows[k][i] = rows[k + 1][i];
  }
}

// A per-channel parameter's values at a place, or `otherwise`; `stride` is 0 or the channels.
template <bool LAST, int V>
__device__ inline void parameter(
    const float* from, const Place& at, int stride, float otherwise, float (&to)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i)
    to[i] = from ? from[at.sample * stride + at.channel + (LAST ? i : 0)] : otherwise;
}

// Noise at the elements of a vector.
template <bool LAST, int V>
__device__ inline void noise_at(
    const Epilogue& call, const Place& at, int row, int column, float (&to)[V]) {
  const Grid& grid = call.grid;
  const long long first =
      (static_cast<long long>(call.noise_per_sample ? at.sample : 0) * grid.height + row) * grid.width +
      column;
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = call.noise ? call.noise[first + (LAST ? 0 : i)] : 0.f;
}

// Derivative of the activation at an output: gain, gain * slope, or 0 where it is clamped.
template <typename T>
struct Mask {
  float above, below, limit;
  bool clamps;
  __device__ explicit Mask(const Epilogue& call)
      : above(call.gain),
        below(call.gain * call.slope),
        limit(to_float(from_float<T>(call.clamp))),
        clamps(call.clamp < 3e38f) {}
  __device__ float operator()(float y) const {
    const float slope = y > 0.f ? above : below;
    return clamps && fabsf(y) >= limit ? 0.f : slope;
  }
};

template <typename T, bool LAST, int V, int TAPS>
struct Plain {  // reads x
  const T* x;
  int channels, height, width;
  __device__ void operator()(
      const Place& at, int row, int column, bool there, bool, float (&to)[V]) const {
    read_if<V>(there, x + element<LAST>(at, channels, height, width, row, column), to);
  }
};

template <typename T, bool LAST, int V, int TAPS>
__global__ void forward(
    Walk<LAST, V> walk, Epilogue call, const T* x, const float* bias, const float* strength, T* y) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = call.grid;
  float scale[V], shift[V];
  parameter<LAST, V>(call.demodulation, at, grid.channels, 1.f, scale);
  parameter<LAST, V>(bias, at, 0, 0.f, shift);
  const float loudness = call.noise ? *strength : 0.f;
  const Blur<TAPS> blur(call.taps, call.blur_gain, false);
  const Plain<T, LAST, V, TAPS> source{
      x, grid.channels, grid.height + (TAPS > 1), grid.width + (TAPS > 1)};
  walk_rows<TAPS, V>(blur, source, at, [&](int row, float(&values)[V]) {
    float noise[V];
    noise_at<LAST, V>(call, at, row, at.column, noise);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      float value = values[i] * scale[i] + (loudness * noise[i] + shift[i]);
      value = (value > 0.f ? value : value * call.slope) * call.gain;
      values[i] = fminf(fmaxf(value, -call.clamp), call.clamp);
      if (value != value) values[i] = value;  // not a number stays so
    }
    write<V>(y + element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column), values);
  });
}

// The tangent's input: vx * demodulation + x * v_demodulation.
template <typename T, bool LAST, int V, int TAPS>
struct Tangent {
  const T *vx, *x;
  const float *scale, *v_scale;
  int channels, height, width;
  __device__ void operator()(
      const Place& at, int row, int column, bool there, bool, float (&to)[V]) const {
    const long long first = element<LAST>(at, channels, height, width, row, column);
    float values[V];
    read_if<V>(there, vx + first, to);
    read_if<V>(there && x, x + first, values);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] *= scale[i];
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] += values[i] * v_scale[i];
  }
};

template <typename T, bool LAST, int V, int TAPS>
__global__ void tangent(Walk<LAST, V> walk, Epilogue call, const T* vx, const T* x, const T* y,
                        const float* v_demodulation, const float* v_bias, const float* v_strength,
                        T* result) {
  const Place at = walk.place();
  if (!at.live) return;
  const Grid& grid = call.grid;
  float scale[V], v_scale[V], shift[V];
  parameter<LAST, V>(call.demodulation, at, grid.channels, 1.f, scale);
  parameter<LAST, V>(v_demodulation, at, grid.channels, 0.f, v_scale);
  parameter<LAST, V>(v_bias, at, 0, 0.f, shift);
  const float loudness = call.noise && v_strength ? *v_strength : 0.f;
  const Blur<TAPS> blur(call.taps, call.blur_gain, false);
  const Mask<T> mask(call);
  const Tangent<T, LAST, V, TAPS> source{vx, v_demodulation ? x : nullptr, scale, v_scale,
                                         grid.channels, grid.height + (TAPS > 1),
                                         grid.width + (TAPS > 1)};
  walk_rows<TAPS, V>(blur, source, at, [&](int row, float(&values)[V]) {
    const long long first =
        element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column);
    float noise[V], outputs[V];
    noise_at<LAST, V>(call, at, row, at.column, noise);
    read<V>(y + first, outputs);
#pragma unroll
    for (int i = 0; i < V; ++i)
      values[i] = mask(outputs[i]) * (values[i] + shift[i] + loudness * noise[i]);
    write<V>(result + first, values);
  });
}

// The adjoint's input, gy * mask(y); sums it, and it times the noise, over the rows a thread owns.
template <typename T, bool LAST, int V, int TAPS>
struct Masked {
  const Epilogue& call;
  const Mask<T> mask;
  const T *gy, *y;
  float (&bias)[V], (&strength)[V];
  int height, width;
  __device__ void operator()(
      const Place& at, int row, int column, bool there, bool centre, float (&to)[V]) const {
    const long long first = element<LAST>(at, call.grid.channels, height, width, row, column);
    float outputs[V];
    read_if<V>(there, gy + first, to);
    read_if<V>(there, y + first, outputs);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] *= mask(outputs[i]);
    if (!centre || !there || row < at.first_row || row >= at.last_row) return;
    float noise[V];
    noise_at<LAST, V>(call, at, row, column, noise);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      bias[i] += to[i];
      strength[i] += to[i] * noise[i];
    }
  }
};

template <typename T, bool LAST, int V, int TAPS>
__global__ void adjoint(Walk<LAST, V> walk, Epilogue call, int partials_each, const T* gy, const T* y,
                        const T* x, T* gx, float* partials) {
  const Place at = walk.place();
  const Grid& grid = walk.grid;  // of x
  float demodulation[V], bias[V], strength[V];
  clear(demodulation);
  clear(bias);
  clear(strength);
  if (at.live) {
    float scale[V];
    parameter<LAST, V>(call.demodulation, at, grid.channels, 1.f, scale);
    const Blur<TAPS> blur(call.taps, call.blur_gain, true);
    const Masked<T, LAST, V, TAPS> source{call, Mask<T>(call), gy, y, bias, strength,
                                          call.grid.height, call.grid.width};
    walk_rows<TAPS, V>(blur, source, at, [&](int row, float(&values)[V]) {
      const long long first =
          element<LAST>(at, grid.channels, grid.height, grid.width, row, at.column);
      if (x) {
        float inputs[V];
        read<V>(x + first, inputs);
#pragma unroll
        for (int i = 0; i < V; ++i) demodulation[i] += values[i] * inputs[i];
      }
#pragma unroll
      for (int i = 0; i < V; ++i) values[i] *= scale[i];
      write<V>(gx + first, values);
    });
  }
  const long long quantity =
      static_cast<long long>(partials_each) * grid.batch * grid.channels;
  if (x) block_sum<LAST, V>(walk, at, demodulation, partials);
  block_sum<LAST, V>(walk, at, bias, partials + quantity);
  if (call.noise) block_sum<LAST, V>(walk, at, strength, partials + 2 * quantity);
}

Grid input_grid(const Epilogue& call) {
  Grid grid = call.grid;
  if (call.taps) ++grid.height, ++grid.width;
  return grid;
}

// Calls `run` with (a value of the type, layout, vector length, taps) as constants.
template <typename Run>
void dispatch(const Epilogue& call, bool allowed, Run run) {
  with_type(call.type, [&](auto type) {
    using T = decltype(type);
    constexpr int kVector = 16 / sizeof(T);
    using Last = std::true_type;
    using First = std::false_type;
    using One = std::integral_constant<int, 1>;
    using Four = std::integral_constant<int, 4>;
    if (call.grid.channels_last)
      with_vectors<kVector>(call.grid.channels, allowed, [&](auto v) {
        call.taps ? run(type, Last(), v, Four()) : run(type, Last(), v, One());
      });
    else if (call.taps)
      run(type, First(), One(), Four());  // odd rows: no aligned vectors
    else
      with_vectors<kVector>(call.grid.width, allowed, [&](auto v) { run(type, First(), v, One()); });
  });
}

// The walk of a result's grid, and that of the adjoint, which leaves sums.
template <bool LAST, int V, int TAPS>
Walk<LAST, V> walk_of(const Epilogue& call) {
  return TAPS > 1 ? Walk<LAST, V>(call.grid, kBlurRows, kFilterLanes)
                  : Walk<LAST, V>(call.grid, kPlainRows);
}
template <bool LAST, int V, int TAPS>
Walk<LAST, V> adjoint_walk(const Epilogue& call) {
  return TAPS > 1 ? Walk<LAST, V>(input_grid(call), kBlurRows, kFilterLanes)
                  : Walk<LAST, V>::summing(input_grid(call));
}

}  // namespace
}  // namespace stylex

using namespace stylex;

void epilogue(const Epilogue* call, const void* x, const float* bias, const float* strength,
              void* y, cudaStream_t stream) {
  dispatch(*call, aligned(x) && aligned(y), [&](auto type, auto last, auto v, auto taps) {
    using T = decltype(type);
    const auto walk = walk_of<last(), v(), taps()>(*call);
    launch(forward<T, last(), v(), taps()>, walk.blocks(), walk.block(), stream, walk, *call,
           static_cast<const T*>(x), bias, strength, static_cast<T*>(y));
  });
}

void epilogue_jvp(const Epilogue* call, const void* vx, const void* x, const void* y,
                  const float* v_demodulation, const float* v_bias, const float* v_strength,
                  void* result, cudaStream_t stream) {
  const bool allowed = aligned(vx) && aligned(x) && aligned(y) && aligned(result);
  dispatch(*call, allowed, [&](auto type, auto last, auto v, auto taps) {
    using T = decltype(type);
    const auto walk = walk_of<last(), v(), taps()>(*call);
    launch(tangent<T, last(), v(), taps()>, walk.blocks(), walk.block(), stream, walk, *call,
           static_cast<const T*>(vx), static_cast<const T*>(x), static_cast<const T*>(y),
           v_demodulation, v_bias, v_strength, static_cast<T*>(result));
  });
}

void epilogue_vjp(const Epilogue* call, const void* gy, const void* y, const void* x, void* gx,
                  float* partials, cudaStream_t stream) {
  // The vectors allowed must be those that epilogue_partials counted on: bindings.cpp checks.
  dispatch(*call, true, [&](auto type, auto last, auto v, auto taps) {
    using T = decltype(type);
    const auto walk = adjoint_walk<last(), v(), taps()>(*call);
    launch(adjoint<T, last(), v(), taps()>, walk.blocks(), walk.block(), stream, walk, *call,
           walk.partials(), static_cast<const T*>(gy), static_cast<const T*>(y),
           static_cast<const T*>(x), static_cast<T*>(gx), partials);
  });
}

int epilogue_partials(const Epilogue* call) {
  int found = 0;
  dispatch(*call, true, [&](auto, auto last, auto v, auto taps) {
    found = adjoint_walk<last(), v(), taps()>(*call).partials();
  });
  return found;
}
