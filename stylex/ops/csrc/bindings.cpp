// The kernels as PyTorch's ops on CUDA: checks, results, streams. The schemas, the fake kernels and
// the derivatives stand beside the public functions in Python.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "kernels.h"

namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

int type_of(at::ScalarType type) {
  if (type == at::kFloat) return FLOAT32;
  if (type == at::kHalf) return FLOAT16;
  TORCH_CHECK(type == at::kBFloat16, "fused ops take float32, float16 or bfloat16, got ", type);
  return BFLOAT16;
}

at::MemoryFormat layout(const Tensor& x) {
  return x.is_contiguous(at::MemoryFormat::ChannelsLast) && !x.is_contiguous()
             ? at::MemoryFormat::ChannelsLast
             : at::MemoryFormat::Contiguous;
}

// The dispatcher lets tensors of other devices through; the guard has chosen the activation's.
void check_here(const Tensor& x) {
  const at::Device here(at::kCUDA, c10::cuda::current_device());
  TORCH_CHECK(x.device() == here, "all tensors must be on ", here, ", got one on ", x.device());
}

// Dense in the given order and readable 16 bytes at a time.
Tensor dense(const Tensor& x, at::MemoryFormat format) {
  check_here(x);
  const Tensor found = x.contiguous(format);
  return reinterpret_cast<uintptr_t>(found.const_data_ptr()) % 16 == 0 ? found : found.clone(format);
}

Tensor parameter(const Tensor& x) {
  check_here(x);
  return x.to(at::kFloat).contiguous();
}
Maybe parameter(const Maybe& x) { return x ? Maybe(parameter(*x)) : x; }
const float* pointer(const Maybe& x) { return x ? x->const_data_ptr<float>() : nullptr; }

Grid grid_of(const Tensor& x, at::MemoryFormat format) {
  TORCH_CHECK(x.dim() == 4, "features have 4 axes, got ", x.dim());
  TORCH_CHECK(x.size(0) <= 65535, "a batch has at most 65535 samples, got ", x.size(0));
  return {static_cast<int>(x.size(0)), static_cast<int>(x.size(1)), static_cast<int>(x.size(2)),
          static_cast<int>(x.size(3)), format == at::MemoryFormat::ChannelsLast};
}

Tensor features(const Tensor& like, at::IntArrayRef shape, at::ScalarType type,
                at::MemoryFormat format) {
  return at::empty(shape, like.options().dtype(type).memory_format(format));
}

Tensor floats(const Tensor& like, at::IntArrayRef shape) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}

// An epilogue's call with everything that it points to.
struct Call {
  Maybe demodulation, noise, taps;
  Epilogue epilogue;

  // `y` has the shape of the result.
  Call(at::ScalarType type, Grid y, const Maybe& demodulation_, const Maybe& noise_,
       const Maybe& taps_, double blur_gain, double gain, double clamp)
      : demodulation(parameter(demodulation_)), noise(parameter(noise_)), taps(parameter(taps_)) {
    TORCH_CHECK(blur_gain >= 0, "the blur's gain must not be negative, got ", blur_gain);
    TORCH_CHECK(!taps || taps->numel() == 4, "the fused blur has 4 taps, got ", taps->numel());
    TORCH_CHECK(!demodulation || demodulation->numel() == int64_t(y.batch) * y.channels,
                "demodulation has one factor per sample and channel, got ", demodulation->sizes());
    const int64_t one = int64_t(y.height) * y.width;
    TORCH_CHECK(!noise || noise->numel() == one || noise->numel() == one * y.batch,
                "noise has the result's height and width, got ", noise->sizes());
    const bool per_sample = noise && y.batch > 1 && noise->numel() == one * y.batch;
    const double largest = std::numeric_limits<float>::infinity();
    epilogue = {type_of(type), y, pointer(taps), static_cast<float>(blur_gain), pointer(demodulation),
                pointer(noise), per_sample, static_cast<float>(gain), 0.2f,
                static_cast<float>(std::min(clamp, largest))};
  }
};

Tensor epilogue_cuda(const Tensor& x_, const Tensor& bias_, const Maybe& strength_,
                     const Maybe& demodulation, const Maybe& noise, const Maybe& taps,
                     double blur_gain, double gain, double clamp) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto format = layout(x_);
  const Tensor x = dense(x_, format), bias = parameter(bias_);
  const Maybe strength = parameter(strength_);
  TORCH_CHECK(noise.has_value() == strength.has_value() && (!strength || strength->numel() == 1),
              "noise comes with its strength, one number");
  Grid grid = grid_of(x, format);
  TORCH_CHECK(bias.numel() == grid.channels, "bias has one value per channel, got ", bias.sizes());
  if (taps) --grid.height, --grid.width;
  const Tensor y = features(
      x, {grid.batch, grid.channels, grid.height, grid.width}, x.scalar_type(), format);
  if (y.numel() == 0) return y;
  const Call call(x.scalar_type(), grid, demodulation, noise, taps, blur_gain, gain, clamp);
  epilogue(&call.epilogue, x.const_data_ptr(), bias.const_data_ptr<float>(), pointer(strength),
           y.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> epilogue_vjp_cuda(
    const Tensor& gy_, const Tensor& y_, const Maybe& x_, const Maybe& demodulation,
    const Maybe& noise, const Maybe& taps, double blur_gain, double gain, double clamp) {
  const c10::cuda::CUDAGuard guard(y_.device());
  const auto format = layout(y_);
  const auto type = y_.scalar_type();
  const Tensor y = dense(y_, format), gy = dense(gy_.to(type), format);
  const Maybe x = x_ ? Maybe(dense(x_->to(type), format)) : x_;
  const Grid grid = grid_of(y, format);
  const int more = taps ? 1 : 0;
  const Tensor gx = features(
      y, {grid.batch, grid.channels, grid.height + more, grid.width + more}, type, format);
  TORCH_CHECK(gy.sizes() == y.sizes(), "gy has the shape of y, got ", gy.sizes());
  TORCH_CHECK(!x || x->sizes() == gx.sizes(), "x has the shape of its gradient, got ", x->sizes());
  const Call call(type, grid, demodulation, noise, taps, blur_gain, gain, clamp);
  Tensor partials;  // [quantity, part, n, c]; of a quantity that nobody wants, uninitialised
  if (y.numel() == 0) {
    gx.zero_();
    partials = floats(y, {3, 1, grid.batch, grid.channels}).zero_();
  } else {
    partials = floats(y, {3, epilogue_partials(&call.epilogue), grid.batch, grid.channels});
    epilogue_vjp(&call.epilogue, gy.const_data_ptr(), y.const_data_ptr(),
                 x ? x->const_data_ptr() : nullptr, gx.mutable_data_ptr(),
                 partials.mutable_data_ptr<float>(), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {gx, x ? partials.select(0, 0).sum(0) : floats(y, {0}),
          partials.select(0, 1).sum(at::IntArrayRef{0, 1}),
          noise ? partials.select(0, 2).sum() : floats(y, {0})};
}

Tensor epilogue_jvp_cuda(const Tensor& vx_, const Maybe& v_demodulation_, const Maybe& v_bias_,
                         const Maybe& v_strength_, const Tensor& y_, const Maybe& x_,
                         const Maybe& demodulation, const Maybe& noise, const Maybe& taps,
                         double blur_gain, double gain, double clamp) {
  const c10::cuda::CUDAGuard guard(y_.device());
  const auto format = layout(y_);
  const auto type = y_.scalar_type();
  const Tensor y = dense(y_, format), vx = dense(vx_.to(type), format);
  const bool both = v_demodulation_ && x_;
  const Maybe x = both ? Maybe(dense(x_->to(type), format)) : Maybe();
  const Maybe v_demodulation = both ? parameter(v_demodulation_) : Maybe();
  const Maybe v_bias = parameter(v_bias_), v_strength = parameter(v_strength_);
  const Tensor result = features(y, y.sizes(), type, format);
  const int64_t more = taps ? 1 : 0;
  const std::vector<int64_t> input{y.size(0), y.size(1), y.size(2) + more, y.size(3) + more};
  TORCH_CHECK(vx.sizes() == input && (!x || x->sizes() == input), "vx and x have x's shape");
  TORCH_CHECK(!v_bias || v_bias->numel() == y.size(1), "v_bias has one value per channel");
  TORCH_CHECK(!v_demodulation || v_demodulation->numel() == y.size(0) * y.size(1),
              "v_demodulation has one value per sample and channel");
  if (y.numel() == 0) return result;
  const Call call(type, grid_of(y, format), demodulation, noise, taps, blur_gain, gain, clamp);
  epilogue_jvp(&call.epilogue, vx.const_data_ptr(), x ? x->const_data_ptr() : nullptr,
               y.const_data_ptr(), pointer(v_demodulation), pointer(v_bias), pointer(v_strength),
               result.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

Tensor modulate_cuda(const Tensor& x_, const Tensor& s_, at::ScalarType type) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto format = layout(x_);
  const Tensor x = dense(x_, format), s = parameter(s_);
  const Grid grid = grid_of(x, format);
  TORCH_CHECK(s.numel() == int64_t(grid.batch) * grid.channels,
              "styles have one factor per sample and channel, got ", s.sizes());
  const Tensor result = features(x, x.sizes(), type, format);
  if (x.numel() == 0) return result;
  modulate(grid, type_of(x.scalar_type()), type_of(type), x.const_data_ptr(),
           s.const_data_ptr<float>(), result.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

Tensor modulate_jvp_cuda(const Tensor& vx_, const Tensor& vs_, const Tensor& x_, const Tensor& s_,
                         at::ScalarType type) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto format = layout(x_);
  const Tensor x = dense(x_, format), vx = dense(vx_.to(x.scalar_type()), format);
  const Tensor s = parameter(s_), vs = parameter(vs_);
  TORCH_CHECK(vx.sizes() == x.sizes(), "vx has the shape of x, got ", vx.sizes());
  const Grid grid = grid_of(x, format);
  const int64_t factors = int64_t(grid.batch) * grid.channels;
  TORCH_CHECK(s.numel() == factors && vs.numel() == factors,
              "styles have one factor per sample and channel, got ", s.sizes(), " and ", vs.sizes());
  const Tensor result = features(x, x.sizes(), type, format);
  if (x.numel() == 0) return result;
  modulate_jvp(grid, type_of(x.scalar_type()), type_of(type), vx.const_data_ptr(),
               vs.const_data_ptr<float>(), x.const_data_ptr(), s.const_data_ptr<float>(),
               result.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

std::tuple<Tensor, Tensor> modulate_vjp_cuda(const Tensor& gy_, const Tensor& x_, const Tensor& s_) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto format = layout(x_);
  const Tensor x = dense(x_, format), gy = dense(gy_, format), s = parameter(s_);
  TORCH_CHECK(gy.sizes() == x.sizes(), "gy has the shape of x, got ", gy.sizes());
  const Grid grid = grid_of(x, format);
  TORCH_CHECK(s.numel() == int64_t(grid.batch) * grid.channels,
              "styles have one factor per sample and channel, got ", s.sizes());
  const int from = type_of(x.scalar_type()), to = type_of(gy.scalar_type());
  const Tensor gx = features(x, x.sizes(), x.scalar_type(), format);
  if (x.numel() == 0) return {gx, floats(x, {grid.batch, grid.channels}).zero_()};
  const Tensor partials =
      floats(x, {modulate_partials(grid, from, to), grid.batch, grid.channels});
  modulate_vjp(grid, from, to, gy.const_data_ptr(), x.const_data_ptr(), s.const_data_ptr<float>(),
               gx.mutable_data_ptr(), partials.mutable_data_ptr<float>(),
               c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {gx, partials.sum(0)};
}

Tensor upfirdn2d_cuda(const Tensor& x_, const Tensor& taps_, at::IntArrayRef up,
                      at::IntArrayRef down, at::IntArrayRef padding, bool flip, double gain) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const auto format = layout(x_);
  const Tensor x = dense(x_, format), taps = parameter(taps_);
  const int64_t length[2] = {taps.size(0), taps.size(-1)};
  int64_t size[2];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t room = x.size(2 + axis) * up[axis] + padding[2 * axis] + padding[2 * axis + 1] -
                         length[axis];
    TORCH_CHECK(room >= 0, "padding must leave a pixel on each axis, got ", room + 1);
    size[axis] = room / down[axis] + 1;
  }
  const Tensor y = features(x, {x.size(0), x.size(1), size[0], size[1]}, x.scalar_type(), format);
  if (y.numel() == 0) return y;
  const auto as_int = [](int64_t value) { return static_cast<int>(value); };
  // The op convolves, the kernel correlates.
  const Upfirdn2d call = {
      type_of(x.scalar_type()), grid_of(x, format), as_int(size[0]), as_int(size[1]),
      taps.const_data_ptr<float>(), taps.dim() == 1, !flip, as_int(length[0]), as_int(length[1]),
      as_int(up[0]), as_int(up[1]), as_int(down[0]), as_int(down[1]), as_int(padding[0]),
      as_int(padding[2]), static_cast<float>(gain)};
  upfirdn2d(&call, x.const_data_ptr(), y.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(stylex, CUDA, m) {
  m.impl("epilogue", epilogue_cuda);
  m.impl("epilogue_vjp", epilogue_vjp_cuda);
  m.impl("epilogue_jvp", epilogue_jvp_cuda);
  m.impl("modulate", modulate_cuda);
  m.impl("modulate_jvp", modulate_jvp_cuda);
  m.impl("modulate_vjp", modulate_vjp_cuda);
  m.impl("upfirdn2d", upfirdn2d_cuda);
}
