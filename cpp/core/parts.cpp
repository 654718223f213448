#include <vector>

#include "core/batch_norm.h"
#include "core/part_backward.h"
#include "core/plan.h"
#include "core/slices.h"

namespace batchnorm {
namespace {

ChannelVector VectorOf(double* values) { return {values, DType::kFloat64, sizeof(double)}; }

// The parameters that stand for a renormalization: r and d make weight * r of the weight, bias + weight * d of the
// bias.
class EffectiveAffine {
 public:
  EffectiveAffine(const AffineTransform& given, const SavedPart& part, std::size_t channels) : value_(given) {
    if (!part.r) return;
    memory_.resize(2 * channels);
    double *weight = memory_.data(), *bias = weight + channels;
    for (std::size_t c = 0; c < channels; ++c) {
      const double w = given.weight.GetOr(c, 1);
      weight[c] = w * part.r[c];
      bias[c] = given.bias.GetOr(c, 0) + w * part.d[c];
    }
    value_ = {VectorOf(weight), VectorOf(bias)};
  }
  EffectiveAffine(const EffectiveAffine&) = delete;

  const AffineTransform& value() const { return value_; }

 private:
  std::vector<double> memory_;
  AffineTransform value_;
};

}  // namespace

std::vector<std::int64_t> CountsOf(const ArrayView& x, std::size_t axis, const ArrayView* mask,
                                   const BatchSlices& slices, Workers workers) {
  std::vector<std::int64_t> counts;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const auto of_part = slices.Of(mask, i);
    counts.push_back(CountOf(slices.Of(x, i), axis, PointerTo(of_part), workers));
  }
  return counts;
}

void TrainBackward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis,
                   const std::vector<SavedPart>& parts, const EpilogueGradient& epilogue, Workers workers,
                   const ParameterGradients& out) {
  const BatchSlices slices(dy, axis, parts.size());
  // The map of a part reads x, or y in its place, and dy again.
  const ArrayView& like = x ? *x : *epilogue.y;
  const Storing storing = StoringFor(BytesOf(dx), BytesOf(slices.Of(like, 0)) + BytesOf(slices.Of(dy, 0)));
  if (parts.size() == 1 && !parts[0].r) return PartBackward(dy, x, dx, axis, parts[0], epilogue, storing, workers, out);
  const auto channels = static_cast<std::size_t>(dy.extents[axis]);
  std::vector<double> of_part(3 * channels), total(3 * channels, 0.0);
  double *dweight = of_part.data(), *dbias = dweight + channels, *dslope = dbias + channels;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const SavedPart& part = parts[i];
    const auto y = slices.Of(epilogue.y, i), residual = slices.Of(epilogue.residual, i),
               mask = slices.Of(epilogue.mask, i), dresidual = slices.Of(epilogue.dresidual, i),
               x_part = slices.Of(x, i);
    const EffectiveAffine affine(epilogue.affine, part, channels);
    EpilogueGradient gradient = epilogue;
    gradient.y = PointerTo(y);
    gradient.residual = PointerTo(residual);
    gradient.mask = PointerTo(mask);
    gradient.dresidual = PointerTo(dresidual);
    gradient.affine = affine.value();
    if (epilogue.dslope) gradient.dslope = VectorOf(dslope);
    PartBackward(slices.Of(dy, i), PointerTo(x_part), slices.Of(dx, i), axis, part, gradient, storing, workers,
                 {VectorOf(dweight), VectorOf(dbias), {}, {}});
    for (std::size_t c = 0; c < channels; ++c) {
      total[c] += part.r ? part.r[c] * dweight[c] + part.d[c] * dbias[c] : dweight[c];
      total[channels + c] += dbias[c];
      if (epilogue.dslope) total[2 * channels + c] += dslope[c];
    }
  }
  for (std::size_t c = 0; c < channels; ++c) {
    out.dweight.Set(c, total[c]);
    out.dbias.Set(c, total[channels + c]);
    if (epilogue.dslope) epilogue.dslope.Set(c, total[2 * channels + c]);
  }
}

}  // namespace batchnorm
