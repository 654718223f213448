#include <cmath>
#include <limits>

#include "core/batch_norm.h"
#include "core/map.h"
#include "core/moments.h"
#include "dispatch/dispatch.h"

namespace batchnorm {

double ReciprocalStd(double var, double eps) { return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps); }

std::int64_t CountOf(const ArrayView& x, std::size_t axis) {
  std::int64_t count = 1;
  for (std::size_t a = 0; a < x.ndim; ++a) count *= a == axis ? 1 : x.extents[a];
  return count;
}

namespace {

template <class AffineAt>
void MapAffine(const ArrayView& in, const ArrayView& out, std::size_t axis, int threads, AffineAt affine) {
  const Layout layout = LayoutOf(in, axis, Purpose::kMap);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  Visit(in.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> source(in, layout, table), target(out, layout, table);
    const Plan plan(layout, source, Purpose::kMap);
    const std::size_t bytes = layout.Values() * sizeof(T);
    RunSweeps<T>(
        plan, ThreadsFor(bytes, threads), NoSums{}, [](const Group<T>&) {},
        Mapper(plan, table, target, StoreFor(bytes, 0), AffineJob{source, affine}));
  });
}

}  // namespace

void ChannelStatistics(const ArrayView& x, std::size_t axis, int threads, double* mean, double* m2) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  if (layout.ValuesPerChannel() == 0) {
    std::fill_n(mean, layout.channels, std::numeric_limits<double>::quiet_NaN());
    std::fill_n(m2, layout.channels, 0.0);
  }
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  Visit(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> source(x, layout, table);
    const Plan plan(layout, source, Purpose::kSums);
    RunSweeps<T>(
        plan, ThreadsFor(layout.Values() * sizeof(T), threads), MomentReducer<T>(plan, table, source, Precision::kWide),
        [&](const Group<T>& group) {
          const Moments total = MergeChunks(plan, group);
          for (std::size_t i = 0; i < group.channels; ++i) {
            mean[group.first + i] = total.origin[i] + total.offset[i];
            m2[group.first + i] = total.m2[i];
          }
        },
        NoMap{});
  });
}

void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const AffineTransform& affine, double eps,
                  const RunningStats* running, int threads, double* mean, double* rstd, double* var) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  const std::int64_t count = CountOf(x, axis);
  if (count == 0) {
    for (double* field : {mean, rstd, var})
      std::fill_n(field, layout.channels, std::numeric_limits<double>::quiet_NaN());
  }
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const auto affine_at = [&](std::size_t c) {
    return ChannelAffine{mean[c], affine.weight.GetOr(c, 1) * rstd[c], affine.bias.GetOr(c, 0)};
  };
  Visit(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operand<T> source(x, layout, table), target(y, layout, table);
    const Plan plan(layout, source, Purpose::kSums);
    const std::size_t bytes = layout.Values() * sizeof(T);
    RunSweeps<T>(
        plan, ThreadsFor(bytes, threads), MomentReducer<T>(plan, table, source, TrainingPrecision<T>(layout)),
        [&](const Group<T>& group) {
          const Moments total = MergeChunks(plan, group);
          for (std::size_t i = 0; i < group.channels; ++i) {
            const std::size_t c = group.first + i;
            mean[c] = total.origin[i] + total.offset[i];
            var[c] = total.m2[i] / static_cast<double>(count);
            rstd[c] = ReciprocalStd(var[c], eps);
            if (running) running->Update(c, count, mean[c], total.m2[i]);
          }
        },
        Mapper(plan, table, target, StoreFor(bytes, bytes), AffineJob{source, affine_at}));
  });
}

void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, double eps, int threads) {
  MapAffine(x, y, axis, threads, [&](std::size_t c) {
    return ChannelAffine{mean.Get(c), affine.weight.GetOr(c, 1) * ReciprocalStd(var.Get(c), eps),
                         affine.bias.GetOr(c, 0)};
  });
}

void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, int threads) {
  MapAffine(y, x, axis, threads, [&](std::size_t c) {
    return ChannelAffine{affine.bias.GetOr(c, 0), std::sqrt(var.Get(c) + eps) / affine.weight.GetOr(c, 1), mean.Get(c)};
  });
}

}  // namespace batchnorm
