// The map that every forward job ends with.
#pragma once

#include <array>

#include "core/batch_norm.h"
#include "core/map.h"
#include "core/shared.h"

namespace batchnorm {

// out = (in - center) * scale + shift
struct ChannelAffine {
  double center, scale, shift;
};

// As kernels take it, the mean rounded to their lanes.
template <class T>
ChannelAffine InLanes(ChannelAffine a) {
  const double low = LostByRounding<T>(a.center);
  return {a.center, a.scale, low == 0 ? a.shift : a.shift - low * a.scale};
}

// The operands of an epilogue.
template <class E>
struct EpilogueOperands {
  ChannelVector slope;
  std::optional<Operand<E>> residual, signs;

  EpilogueOperands(const Epilogue& epilogue, const Layout& layout, const KernelTable& table)
      : slope(epilogue.slope),
        residual(OperandOf<E>(epilogue.residual, layout, table)),
        signs(OperandOf<E>(epilogue.signs, layout, table)) {}
};

// affine(channel) gives the ChannelAffine.
template <class E, class AffineAt>
struct AffineJob {
  const Operand<E>& in;
  const EpilogueOperands<E>& epilogue;
  const Mask& masked;
  AffineAt affine;

  enum { kCenter, kScale, kShift, kSlope, kOne, kFields };

  Fusion fusion() const {
    return epilogue.residual ? Fusion::kResidual : epilogue.slope ? Fusion::kActivation : Fusion::kNone;
  }
  std::size_t fields() const { return fusion() == Fusion::kNone ? kSlope : epilogue.signs ? kFields : kOne; }

  std::array<double, kFields> Parameters(const Group<Lane<E>>& group, std::size_t c) const {
    const ChannelAffine a = InLanes<Lane<E>>(affine(group.first + c));
    return {a.center, a.scale, a.shift, epilogue.slope.GetOr(group.first + c, 1), 1};
  }

  void Run(const WalkKernels<E>& kernels, const Block& block, const ColumnParameters<Lane<E>>& p, Scratch& scratch,
           Tile<E> out) const {
    const Tile<const E> x = in.Read(block, scratch, Scratch::kX);
    const Tile<const E> r = epilogue.residual ? epilogue.residual->Read(block, scratch, Scratch::kResidual) : x;
    const MaskTile mask = masked.Read(block, scratch);
    const auto run = [&](Fusion f, const Lane<E>* slope, Tile<E> to) {
      kernels.affine[static_cast<std::size_t>(f)](
          x, r, mask, {p.At(kCenter, block), p.At(kScale, block), p.At(kShift, block), p.RowsOf(block), slope}, to);
    };
    if (epilogue.signs) {  // first, because y may be x
      const Fusion before_activation = epilogue.residual ? Fusion::kResidual : Fusion::kNone;
      epilogue.signs->Write(block, scratch, Scratch::kSecondOut,
                            [&](Tile<E> v) { run(before_activation, p.At(kOne, block), v); });
    }
    run(fusion(), fusion() == Fusion::kNone ? nullptr : p.At(kSlope, block), out);
  }
};
template <class E, class AffineAt>
AffineJob(const Operand<E>&, const EpilogueOperands<E>&, const Mask&, AffineAt) -> AffineJob<E, AffineAt>;

}  // namespace batchnorm
