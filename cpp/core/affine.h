// The map that every forward job ends with, and the inference form of backward: an affine function per channel.
#pragma once

#include "core/sweep.h"

namespace batchnorm {

// out = (in - center) * scale + shift
struct ChannelAffine {
  double center, scale, shift;
};

// Maps `in` to `out`; affine(channel) gives the ChannelAffine.
template <class T, class AffineAt>
class AffineMapper {
 public:
  AffineMapper(const Plan& plan, const Kernels<T>& kernels, const Operand<T>& in, const Operand<T>& out,
               StoreKind store, AffineAt affine)
      : plan_(plan), kernels_(KernelsFor(plan, kernels)), in_(in), out_(out), store_(store), affine_(affine) {}

  void operator()(std::size_t group, std::size_t chunk, const double*, Scratch& scratch) const {
    enum { kCenter, kScale, kShift, kFields };
    const std::size_t first = plan_.FirstChannel(group);
    ColumnParameters<T> p(plan_, group, kFields, scratch, Scratch::kParameters);
    p.Fill([&](std::size_t c) -> std::array<double, kFields> {
      const ChannelAffine a = affine_(first + c);
      const double low = LostByRounding<T>(a.center);
      return {a.center, a.scale, low == 0 ? a.shift : a.shift - low * a.scale};
    });
    plan_.ForEachBlock(group, chunk, [&](const Block& block) {
      const AffineParameters<T> parameters = {p.At(kCenter, block), p.At(kScale, block), p.At(kShift, block)};
      const Tile<const T> x = in_.Read(block, scratch, Scratch::kX);
      out_.Write(block, scratch,
                 [&](Tile<T> y, bool direct) { KernelFor(kernels_.affine, store_, direct)(x, parameters, y); });
    });
  }

 private:
  const Plan& plan_;
  const WalkKernels<T>& kernels_;
  const Operand<T>&in_, &out_;
  StoreKind store_;
  AffineAt affine_;
};

}  // namespace batchnorm
