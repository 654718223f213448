#include <algorithm>
#include <cmath>

#include "core/batch_norm.h"
#include "core/map.h"
#include "dispatch/dispatch.h"

namespace batchnorm {
namespace {

// The statistics that normalized a channel of x.
struct ChannelStat {
  double mean, rstd;
};

// sum(dy) and sum(dy * xhat) of a channel.
struct GradientSums {
  double dy, dy_xhat;
};

// Sums over (dy, x); stat(channel) gives the ChannelStat.
template <class T, class StatAt>
class GradientReducer {
 public:
  enum { kFields = 2 };  // per channel in a partial: the two sums, xhat with the mean rounded to T
  enum { kCenter, kRstd, kColumns };

  GradientReducer(const Plan& plan, const KernelTable& table, const Operand<T>& dy, const Operand<T>& x,
                  Precision precision, StatAt stat)
      : plan_(plan), kernels_(KernelsFor<T>(plan, table)), dy_(dy), x_(x), precision_(precision), stat_(stat) {}

  void Prepare(Group<T>& group, Scratch&) const {
    Columns(group).Fill([&](std::size_t c) -> std::array<double, kColumns> {
      const ChannelStat s = stat_(group.first + c);
      return {s.mean, s.rstd};
    });
  }

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    double* partial = group.Partial(chunk);
    std::fill_n(partial, kFields * group.channels, 0.0);
    const ColumnParameters<T> p = Columns(group);
    BlockSums sums(plan_, group.index, scratch);
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      const Tile<const T> dy = dy_.Read(block, scratch, Scratch::kDy);
      const Tile<const T> x = x_.Read(block, scratch, Scratch::kX);
      const auto take = [&](Precision precision) {
        kernels_.gradient_sums[static_cast<std::size_t>(precision)](dy, x, {p.At(kCenter, block), p.At(kRstd, block)},
                                                                    sums.first_columns(), sums.second_columns());
        sums.Fold(block);
      };
      // Float lanes overflow where dy is near the top of its range.
      const auto in_range = [](double dy, double dy_xhat) { return std::isfinite(dy) && std::isfinite(dy_xhat); };
      TakeInRange(precision_, block.channels, scratch, take, in_range, sums.first(), sums.second());
      double* into = partial + (block.channel - group.first);
      for (std::size_t c = 0; c < block.channels; ++c) {
        into[c] += sums.first()[c];
        into[group.channels + c] += sums.second()[c];
      }
    });
  }

  // Adds the chunks, in their order, into the first, which then holds GradientSums: all first fields, all second ones.
  // done(channel, GradientSums) takes them.
  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    double* total = group.partials;
    for (std::size_t k = 1; k < plan_.chunks(); ++k) {
      for (std::size_t i = 0; i < kFields * group.channels; ++i) total[i] += group.Partial(k)[i];
    }
    for (std::size_t c = 0; c < group.channels; ++c) {
      const ChannelStat s = stat_(group.first + c);
      const double dy = total[c];
      double& dy_xhat = total[group.channels + c];
      const double low = LostByRounding<T>(s.mean);
      if (low != 0) dy_xhat -= low * s.rstd * dy;
      done(group.first + c, GradientSums{dy, dy_xhat});
    }
  }

 private:
  ColumnParameters<T> Columns(const Group<T>& group) const { return {plan_, group.index, kColumns, group.start}; }

  const Plan& plan_;
  const WalkKernels<T>& kernels_;
  const Operand<T>&dy_, &x_;
  Precision precision_;
  StatAt stat_;
};

// dx = ((dy - mean_dy) + (x - center) * slope) * scale
struct ChannelGradient {
  double mean_dy, center, slope, scale;
};

// The map of the training form; gradient(channel, GradientSums) gives the ChannelGradient.
template <class T, class GradientAt>
struct GradientJob {
  const Operand<T>&dy, &x;
  GradientAt gradient;

  enum { kMeanDy, kCenter, kSlope, kScale, kFields };

  std::array<double, kFields> Parameters(const Group<T>& group, std::size_t c) const {
    const GradientSums sums{group.partials[c], group.partials[group.channels + c]};
    const ChannelGradient g = gradient(group.first + c, sums);
    const double low = LostByRounding<T>(g.center);
    return {low == 0 ? g.mean_dy : g.mean_dy + low * g.slope, g.center, g.slope, g.scale};
  }

  void Run(const WalkKernels<T>& kernels, StoreKind store, const Block& block, const ColumnParameters<T>& p,
           Scratch& scratch, Tile<T> out) const {
    kernels.gradient[static_cast<std::size_t>(store)](
        dy.Read(block, scratch, Scratch::kDy), x.Read(block, scratch, Scratch::kX),
        {p.At(kMeanDy, block), p.At(kCenter, block), p.At(kSlope, block), p.At(kScale, block), p.RowsOf(block)}, out);
  }
};
template <class T, class GradientAt>
GradientJob(const Operand<T>&, const Operand<T>&, GradientAt) -> GradientJob<T, GradientAt>;

void SetIfPresent(ChannelVector v, std::size_t channel, double value) {
  if (v) v.Set(channel, value);
}

void SetZero(std::size_t channels, const ParameterGradients& out) {
  for (const ChannelVector& v : {out.dweight, out.dbias, out.dmean, out.dvar}) {
    for (std::size_t c = 0; c < channels; ++c) SetIfPresent(v, c, 0);
  }
}

}  // namespace

void TrainBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis, const double* mean,
                   const double* rstd, ChannelVector weight, int threads, const ParameterGradients& out) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  if (layout.ValuesPerChannel() == 0) SetZero(layout.channels, out);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const double count = static_cast<double>(layout.ValuesPerChannel());
  const auto stat = [&](std::size_t c) { return ChannelStat{mean[c], rstd[c]}; };
  const auto gradient = [&](std::size_t c, GradientSums sums) {
    return ChannelGradient{sums.dy / count, mean[c], -rstd[c] * sums.dy_xhat / count, weight.GetOr(c, 1) * rstd[c]};
  };
  Visit(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> dy_operand(dy, layout, table), x_operand(x, layout, table), dx_operand(dx, layout, table);
    const Plan plan(layout, x_operand, Purpose::kSums);
    const std::size_t bytes = layout.Values() * sizeof(T);
    const GradientReducer<T, decltype(stat)> reducer(plan, table, dy_operand, x_operand, TrainingPrecision<T>(layout),
                                                     stat);
    RunSweeps<T>(
        plan, ThreadsFor(bytes, threads), reducer,
        [&](const Group<T>& group) {
          reducer.Finish(group, [&](std::size_t c, GradientSums sums) {
            out.dbias.Set(c, sums.dy);
            out.dweight.Set(c, sums.dy_xhat);
          });
        },
        Mapper(plan, table, dx_operand, StoreFor(bytes, 2 * bytes), GradientJob{dy_operand, x_operand, gradient}));
  });
}

void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, ChannelVector weight, double eps, int threads,
                       const ParameterGradients& out) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  if (layout.ValuesPerChannel() == 0) SetZero(layout.channels, out);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const auto stat = [&](std::size_t c) { return ChannelStat{mean.Get(c), ReciprocalStd(var.Get(c), eps)}; };
  const auto affine = [&](std::size_t c) { return ChannelAffine{0, weight.GetOr(c, 1) * stat(c).rstd, 0}; };
  Visit(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> dy_operand(dy, layout, table), x_operand(x, layout, table), dx_operand(dx, layout, table);
    const Plan plan(layout, x_operand, Purpose::kSums);
    const std::size_t bytes = layout.Values() * sizeof(T);
    const GradientReducer<T, decltype(stat)> reducer(plan, table, dy_operand, x_operand, TrainingPrecision<T>(layout),
                                                     stat);
    RunSweeps<T>(
        plan, ThreadsFor(bytes, threads), reducer,
        [&](const Group<T>& group) {
          reducer.Finish(group, [&](std::size_t c, GradientSums sums) {
            const double rstd = stat(c).rstd, scale = affine(c).scale;
            out.dbias.Set(c, sums.dy);
            out.dweight.Set(c, sums.dy_xhat);
            out.dmean.Set(c, -scale * sums.dy);
            out.dvar.Set(c, -0.5 * scale * rstd * sums.dy_xhat);
          });
        },
        Mapper(plan, table, dx_operand, StoreFor(bytes, bytes), AffineJob{dy_operand, affine}));
  });
}

}  // namespace batchnorm
