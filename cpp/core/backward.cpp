#include "core/affine.h"
#include "core/batch_norm.h"
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

constexpr std::size_t kFields = 2;  // per channel in a partial: sum of dy, sum of dy * (x - center)

// Sums over (dy, x); stat(channel) gives the ChannelStat.
template <class T, class StatAt>
class GradientReducer {
 public:
  GradientReducer(const Plan& plan, const Kernels<T>& kernels, const Operand<T>& dy, const Operand<T>& x,
                  Precision precision, StatAt stat)
      : plan_(plan),
        kernel_(KernelsFor(plan, kernels).gradient_sums[static_cast<std::size_t>(precision)]),
        dy_(dy),
        x_(x),
        stat_(stat) {}

  // center is the mean rounded to T.
  void operator()(std::size_t group, std::size_t chunk, double* partial, Scratch& scratch) const {
    const std::size_t first = plan_.FirstChannel(group), channels = plan_.Channels(group);
    std::fill_n(partial, kFields * channels, 0.0);
    ColumnParameters<T> center(plan_, group, 1, scratch, Scratch::kColumns);
    center.Fill(0, [&](std::size_t c) { return stat_(first + c).mean; });
    BlockSums sums(plan_, group, scratch);
    plan_.ForEachBlock(group, chunk, [&](const Block& block) {
      const Tile<const T> dy = dy_.Read(block, scratch, Scratch::kDy);
      const Tile<const T> x = x_.Read(block, scratch, Scratch::kX);
      kernel_(dy, x, center.At(0, block), sums.first_columns(), sums.second_columns());
      sums.Fold(block);
      double* into = partial + (block.channel - first);
      for (std::size_t c = 0; c < block.channels; ++c) {
        into[c] += sums.first()[c];
        into[channels + c] += sums.second()[c];
      }
    });
  }

  // Adds the chunks, in their order, into the first, which then holds GradientSums: all first fields, all second ones.
  // done(channel, GradientSums) takes them.
  template <class Done>
  void Finish(std::size_t group, double* partials, Done done) const {
    const std::size_t first = plan_.FirstChannel(group), channels = plan_.Channels(group);
    for (std::size_t k = 1; k < plan_.chunks(); ++k) {
      for (std::size_t i = 0; i < kFields * channels; ++i) partials[i] += partials[k * kFields * channels + i];
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const ChannelStat s = stat_(first + c);
      const double dy = partials[c];
      double& dy_xhat = partials[channels + c];
      const double low = s.mean - static_cast<double>(static_cast<T>(s.mean));
      if (low != 0) dy_xhat -= low * dy;
      dy_xhat *= s.rstd;
      done(first + c, GradientSums{dy, dy_xhat});
    }
  }

 private:
  const Plan& plan_;
  void (*kernel_)(Tile<const T>, Tile<const T>, const T*, double*, double*);
  const Operand<T>&dy_, &x_;
  StatAt stat_;
};

// dx = ((dy - mean_dy) + (x - center) * slope) * scale
struct ChannelGradient {
  double mean_dy, center, slope, scale;
};

// Maps (dy, x) to dx; gradient(channel, GradientSums) gives the ChannelGradient.
template <class T, class GradientAt>
class GradientMapper {
 public:
  GradientMapper(const Plan& plan, const Kernels<T>& kernels, const Operand<T>& dy, const Operand<T>& x,
                 const Operand<T>& dx, StoreKind store, GradientAt gradient)
      : plan_(plan),
        kernel_(KernelsFor(plan, kernels).gradient[static_cast<std::size_t>(store)]),
        dy_(dy),
        x_(x),
        dx_(dx),
        gradient_(gradient) {}

  void operator()(std::size_t group, std::size_t chunk, const double* sums, Scratch& scratch) const {
    enum { kMeanDy, kCenter, kSlope, kScale, kParameters };
    const std::size_t first = plan_.FirstChannel(group), channels = plan_.Channels(group);
    const auto at = [&](std::size_t c) { return gradient_(first + c, GradientSums{sums[c], sums[channels + c]}); };
    ColumnParameters<T> p(plan_, group, kParameters, scratch, Scratch::kParameters);
    p.Fill(kCenter, [&](std::size_t c) { return at(c).center; });
    p.Fill(kSlope, [&](std::size_t c) { return at(c).slope; });
    p.Fill(kScale, [&](std::size_t c) { return at(c).scale; });
    // What rounding the centre to T took away goes into the mean of dy.
    p.Fill(kMeanDy, [&](std::size_t c) {
      const ChannelGradient g = at(c);
      const double low = g.center - static_cast<double>(static_cast<T>(g.center));
      return low == 0 ? g.mean_dy : g.mean_dy + low * g.slope;
    });
    plan_.ForEachBlock(group, chunk, [&](const Block& block) {
      const Tile<const T> dy = dy_.Read(block, scratch, Scratch::kDy);
      const Tile<const T> x = x_.Read(block, scratch, Scratch::kX);
      const Tile<T> dx = dx_.Write(block, scratch);
      kernel_(dy, x, {p.At(kMeanDy, block), p.At(kCenter, block), p.At(kSlope, block), p.At(kScale, block)}, dx);
      dx_.Commit(block, {dx.data, dx.rows, dx.cols, dx.stride});
    });
  }

 private:
  const Plan& plan_;
  void (*kernel_)(Tile<const T>, Tile<const T>, GradientParameters<T>, Tile<T>);
  const Operand<T>&dy_, &x_, &dx_;
  GradientAt gradient_;
};

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
  const Layout layout = LayoutOf(x, axis);
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
    const Operand<T> dy_operand(dy, layout), x_operand(x, layout), dx_operand(dx, layout);
    const Plan plan(layout, x_operand);
    const Kernels<T>& kernels = KernelsOf(table, zero);
    const std::size_t bytes = layout.Values() * sizeof(T);
    const GradientReducer<T, decltype(stat)> reducer(plan, kernels, dy_operand, x_operand, TrainingPrecision(layout),
                                                     stat);
    RunSweeps(
        plan, ThreadsFor(bytes, threads), kFields, reducer,
        [&](std::size_t group, double* partials) {
          reducer.Finish(group, partials, [&](std::size_t c, GradientSums sums) {
            out.dbias.Set(c, sums.dy);
            out.dweight.Set(c, sums.dy_xhat);
          });
        },
        GradientMapper<T, decltype(gradient)>(plan, kernels, dy_operand, x_operand, dx_operand,
                                              StoreFor(bytes, dx.data == dy.data), gradient));
  });
}

void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, ChannelVector weight, double eps, int threads,
                       const ParameterGradients& out) {
  const Layout layout = LayoutOf(x, axis);
  if (layout.ValuesPerChannel() == 0) SetZero(layout.channels, out);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const auto stat = [&](std::size_t c) { return ChannelStat{mean.Get(c), ReciprocalStd(var.Get(c), eps)}; };
  const auto affine = [&](std::size_t c) { return ChannelAffine{0, weight.GetOr(c, 1) * stat(c).rstd, 0}; };
  Visit(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> dy_operand(dy, layout), x_operand(x, layout), dx_operand(dx, layout);
    const Plan plan(layout, x_operand);
    const Kernels<T>& kernels = KernelsOf(table, zero);
    const std::size_t bytes = layout.Values() * sizeof(T);
    const GradientReducer<T, decltype(stat)> reducer(plan, kernels, dy_operand, x_operand, TrainingPrecision(layout),
                                                     stat);
    RunSweeps(
        plan, ThreadsFor(bytes, threads), kFields, reducer,
        [&](std::size_t group, double* partials) {
          reducer.Finish(group, partials, [&](std::size_t c, GradientSums sums) {
            const double rstd = stat(c).rstd, scale = affine(c).scale;
            out.dbias.Set(c, sums.dy);
            out.dweight.Set(c, sums.dy_xhat);
            out.dmean.Set(c, -scale * sums.dy);
            out.dvar.Set(c, -0.5 * scale * rstd * sums.dy_xhat);
          });
        },
        AffineMapper<T, decltype(affine)>(plan, kernels, dy_operand, dx_operand, StoreFor(bytes, dx.data == dy.data),
                                          affine));
  });
}

}  // namespace batchnorm
