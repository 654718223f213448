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
      : plan_(plan),
        kernel_(KernelsFor(plan, kernels).affine[static_cast<std::size_t>(store)]),
        in_(in),
        out_(out),
        affine_(affine) {}

  void operator()(std::size_t group, std::size_t chunk, const double*, Scratch& scratch) const {
    enum { kCenter, kScale, kShift, kFields };
    const std::size_t first = plan_.FirstChannel(group);
    ColumnParameters<T> p(plan_, group, kFields, scratch, Scratch::kParameters);
    p.Fill(kCenter, [&](std::size_t c) { return affine_(first + c).center; });
    p.Fill(kScale, [&](std::size_t c) { return affine_(first + c).scale; });
    // What rounding the centre to T took away goes into the shift.
    p.Fill(kShift, [&](std::size_t c) {
      const ChannelAffine a = affine_(first + c);
      const double low = a.center - static_cast<double>(static_cast<T>(a.center));
      return low == 0 ? a.shift : a.shift - low * a.scale;
    });
    plan_.ForEachBlock(group, chunk, [&](const Block& block) {
      const Tile<const T> x = in_.Read(block, scratch, Scratch::kX);
      const Tile<T> y = out_.Write(block, scratch);
      kernel_(x, {p.At(kCenter, block), p.At(kScale, block), p.At(kShift, block)}, y);
      out_.Commit(block, {y.data, y.rows, y.cols, y.stride});
    });
  }

 private:
  const Plan& plan_;
  void (*kernel_)(Tile<const T>, AffineParameters<T>, Tile<T>);
  const Operand<T>&in_, &out_;
  AffineAt affine_;
};

}  // namespace batchnorm
