#include <cmath>
#include <limits>

#include "core/affine_job.h"
#include "core/integer_sums.h"
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
void MapAffine(const ArrayView& in, const ArrayView& out, std::size_t axis, const Epilogue& epilogue, int threads,
               AffineAt affine) {
  const Layout layout = LayoutOf(in, axis, Purpose::kMap);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  VisitElement(KernelDType({&in, &out, epilogue.residual}), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(in, layout, table), target(out, layout, table);
    const EpilogueOperands<E> after(epilogue, layout, table);
    const Plan plan(layout, source, Purpose::kMap);
    const AffineJob job{source, after, affine};
    RunSweeps<Lane<E>>(
        plan, ThreadsFor(BytesOf(layout, in), threads), NoSums{}, [](const Group<Lane<E>>&) {},
        Mapper(plan, table, target, StoreFor(BytesOf(layout, out), 0), job));
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
  VisitElement(KernelDType({&x}), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(x, layout, table);
    const Plan plan(layout, source, Purpose::kSums);
    const auto run = [&](const auto& reducer) {
      const auto finish = [&](const Group<Lane<E>>& group) {
        reducer.Finish(group, [&](std::size_t c, double channel_mean, double channel_m2) {
          mean[c] = channel_mean;
          m2[c] = channel_m2;
        });
      };
      RunSweeps<Lane<E>>(plan, ThreadsFor(BytesOf(layout, x), threads), reducer, finish, NoMap{});
    };
    if (IsInteger(x.dtype)) {
      run(IntegerReducer<E>(plan, table, source));
    } else {
      run(MomentReducer<E>(plan, table, source, Precision::kWide));
    }
  });
}

void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const AffineTransform& affine,
                  const Epilogue& epilogue, double eps, const RunningStats* running, int threads, double* mean,
                  double* rstd, double* var) {
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
  VisitElement(KernelDType({&x, &y, epilogue.residual}), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(x, layout, table), target(y, layout, table);
    const EpilogueOperands<E> after(epilogue, layout, table);
    const Plan plan(layout, source, Purpose::kSums);
    const AffineJob job{source, after, affine_at};
    const MomentReducer<E> reducer(plan, table, source, TrainingPrecision<E>(layout));
    const std::size_t bytes = BytesOf(layout, x);
    RunSweeps<Lane<E>>(
        plan, ThreadsFor(bytes, threads), reducer,
        [&](const Group<Lane<E>>& group) {
          reducer.Finish(group, [&](std::size_t c, double channel_mean, double channel_m2) {
            mean[c] = channel_mean;
            var[c] = channel_m2 / static_cast<double>(count);
            rstd[c] = ReciprocalStd(var[c], eps);
            if (running) running->Update(c, count, mean[c], channel_m2);
          });
        },
        Mapper(plan, table, target, StoreFor(BytesOf(layout, y), bytes), job));
  });
}

void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, const Epilogue& epilogue, double eps, int threads) {
  MapAffine(x, y, axis, epilogue, threads, [&](std::size_t c) {
    return ChannelAffine{mean.Get(c), affine.weight.GetOr(c, 1) * ReciprocalStd(var.Get(c), eps),
                         affine.bias.GetOr(c, 0)};
  });
}

void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, int threads) {
  MapAffine(y, x, axis, {}, threads, [&](std::size_t c) {
    return ChannelAffine{affine.bias.GetOr(c, 0), std::sqrt(var.Get(c) + eps) / affine.weight.GetOr(c, 1), mean.Get(c)};
  });
}

}  // namespace batchnorm
