// What the kernels offer to bindings.cpp: plain C, so that no .cu file needs torch's headers.
//
// Activations are float32, float16 or bfloat16 and lie densely in NCHW or NHWC order; parameters
// and sums are float32. A null pointer leaves a term out.
#pragma once
#include <cuda_runtime_api.h>

extern "C" {

enum Type { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

// One activation tensor's grid.
struct Grid {
  int batch, channels, height, width;
  int channels_last;
};

// y = clamp(gain * lrelu(blur(x) * demodulation + strength * noise + bias)) and its derivatives.
// With taps the input's grid is one row and one column larger than the output's.
struct Epilogue {
  int type;
  Grid grid;                 // of y
  const float* taps;         // [4] of the blur, or null
  float blur_gain;
  const float* demodulation; // [n c] or null
  const float* noise;        // [1 or n, h, w] or null
  int noise_per_sample;
  float gain, slope, clamp;  // clamp: infinity for none
};

// y of x; bias [c], strength [] (with noise).
void epilogue(const Epilogue* call, const void* x, const float* bias, const float* strength,
              void* y, cudaStream_t stream);

// Adjoint: gx of gy, and partial sums [3, epilogue_partials, n, c] whose sum over the second axis
// is, per sample and channel, the gradient of demodulation (needs x), bias, and strength.
void epilogue_vjp(const Epilogue* call, const void* gy, const void* y, const void* x, void* gx,
                  float* partials, cudaStream_t stream);
int epilogue_partials(const Epilogue* call);

// Tangent: gy-shaped result of vx, v_demodulation [n c] or null (needs x), v_bias [c] or null,
// v_strength [] or null.
void epilogue_jvp(const Epilogue* call, const void* vx, const void* x, const void* y,
                  const float* v_demodulation, const float* v_bias, const float* v_strength,
                  void* result, cudaStream_t stream);

// result = x * s, x of type `from`, result of type `to`.
void modulate(Grid grid, int from, int to, const void* x, const float* s, void* result,
              cudaStream_t stream);

// result = vx * s + x * vs, vx and x of type `from`, result of type `to`.
void modulate_jvp(Grid grid, int from, int to, const void* vx, const float* vs, const void* x,
                  const float* s, void* result, cudaStream_t stream);

// gx = gy * s of type `from`, and partial sums [modulate_partials, n, c] of gy * x; gy of type `to`.
void modulate_vjp(Grid grid, int from, int to, const void* gy, const void* x, const float* s,
                  void* gx, float* partials, cudaStream_t stream);
int modulate_partials(Grid grid, int from, int to);

// Insert zeros, pad or crop, correlate with the filter (flipped: convolve), keep every n-th sample.
struct Upfirdn2d {
  int type;
  Grid input;
  int height, width;         // of the result
  const float* filter;       // [taps_x] for both axes if separable, else [taps_y, taps_x]
  int separable, flip;
  int taps_y, taps_x, up_y, up_x, down_y, down_x;
  int before_y, before_x;    // padding; negative crops
  float gain;
};

void upfirdn2d(const Upfirdn2d* call, const void* x, void* y, cudaStream_t stream);

}  // extern "C"
