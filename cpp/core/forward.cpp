#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/affine_job.h"
#include "core/integer_sums.h"
#include "core/moments.h"
#include "core/slices.h"
#include "dispatch/dispatch.h"

namespace batchnorm {

double ReciprocalStd(double var, double eps) { return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps); }

std::int64_t CountOf(const ArrayView& x, std::size_t axis, const ArrayView* mask, Workers workers) {
  if (mask) {
    const Layout layout = LayoutOf(x, axis, Purpose::kSums);
    return static_cast<std::int64_t>(PositionSums(*mask, layout, WorkersFor(BytesOf(x), workers))(0, layout.positions));
  }
  std::int64_t count = 1;
  for (std::size_t a = 0; a < x.ndim; ++a) count *= a == axis ? 1 : x.extents[a];
  return count;
}

double SumOfWeights(const ArrayView& x, std::size_t axis, const ArrayView& weights) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  return PositionSums(weights, layout, {1})(0, layout.positions);
}

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kExact = 9007199254740992.0;  // 2^53: below it float64 holds every integer

template <class AffineAt>
void MapAffine(const ArrayView& in, const ArrayView& out, std::size_t axis, const Epilogue& epilogue,
               const ArrayView* mask, Workers workers, AffineAt affine) {
  const Layout layout = LayoutOf(in, axis, Purpose::kMap);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  VisitElement(KernelDType(table, {&in, &out, epilogue.residual}, mask), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(in, layout, table), target(out, layout, table, StoringFor(BytesOf(out), 0));
    const EpilogueOperands<E> after(epilogue, layout, table);
    const Workers several = WorkersFor(BytesOf(in), workers);
    const Mask masked(mask, layout, table, several);
    const Plan plan(layout, source, Purpose::kMap, CompanyOf(mask));
    const AffineJob job{source, after, masked, affine};
    RunSweeps<Lane<E>>(plan, several, NoSums{}, [](const Group<Lane<E>>&) {}, Mapper(plan, table, target, job));
  });
}

// r and d of a channel, 1 and 0 where running statistics can't tell.
void Renormalize(const Renormalization& of, std::size_t c, double eps, const BatchStatistics& batch) {
  const double sigma = std::sqrt(of.var.Get(c) + eps), sigma_batch = std::sqrt(batch.var[c] + eps);
  const double delta = batch.mean[c] - of.mean.Get(c);
  const double r = sigma == sigma_batch ? 1 : sigma_batch / sigma, d = delta == 0 ? 0 : delta / sigma;
  batch.r[c] = std::clamp(r, 1 / of.r_max, of.r_max);
  batch.d[c] = std::clamp(d, -of.d_max, of.d_max);
}

enum class Steps { kStatistics, kMap, kBoth };

// Of one part of a batch. `running` may be null; `storing` is how y is written.
void TrainPart(const ArrayView& x, const ArrayView& y, std::size_t axis, const Training& training,
               const Epilogue& epilogue, const ArrayView* mask, const RunningStats* running, Steps steps,
               Storing storing, Workers workers, const BatchStatistics& batch) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  if (batch.count == 0) {
    for (double* field : {batch.mean, batch.rstd, batch.var}) std::fill_n(field, layout.channels, kNaN);
    if (batch.r) {
      std::fill_n(batch.r, layout.channels, 1.0);
      std::fill_n(batch.d, layout.channels, 0.0);
    }
    if (steps == Steps::kStatistics) return;
    steps = Steps::kMap;  // y is 0 where all is masked
  }
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const auto affine_at = [&](std::size_t c) {
    double scale = training.affine.weight.GetOr(c, 1), shift = training.affine.bias.GetOr(c, 0);
    if (batch.r) {
      shift += scale * batch.d[c];
      scale *= batch.r[c];
    }
    return ChannelAffine{batch.mean[c], scale * batch.rstd[c], shift};
  };
  VisitElement(KernelDType(table, {&x, &y, epilogue.residual}, mask), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(x, layout, table), target(y, layout, table, storing);
    const EpilogueOperands<E> after(epilogue, layout, table);
    const Workers several = WorkersFor(BytesOf(x), workers);
    const Mask masked(mask, layout, table, several);
    const Plan plan(layout, source, Purpose::kSums, CompanyOf(mask));
    const AffineJob job{source, after, masked, affine_at};
    const MomentReducer<E> reducer(plan, table, layout, source, TrainingPrecision<E>(batch.count), masked, nullptr);
    const Mapper mapper(plan, table, target, job);
    const auto finish = [&](const Group<Lane<E>>& group) {
      reducer.Finish(group, [&](std::size_t c, double mean, double m2) {
        batch.mean[c] = mean;
        batch.var[c] = m2 / static_cast<double>(batch.count);
        batch.rstd[c] = ReciprocalStd(batch.var[c], training.eps);
        if (batch.r) Renormalize(*training.renormalization, c, training.eps, batch);
        if (running) running->Update(c, static_cast<double>(batch.count), mean, m2);
      });
    };
    if (steps == Steps::kBoth) {
      RunSweeps<Lane<E>>(plan, several, reducer, finish, mapper);
    } else if (steps == Steps::kStatistics) {
      RunSweeps<Lane<E>>(plan, several, reducer, finish, NoMap{});
    } else {
      RunSweeps<Lane<E>>(plan, several, NoSums{}, [](const Group<Lane<E>>&) {}, mapper);
    }
  });
}

// Mean and m2 of a channel over all parts.
struct MergedChannel {
  std::int64_t count = 0;
  double mean = kNaN, m2 = 0;

  MergedChannel(std::size_t c, const std::vector<BatchStatistics>& parts) {
    for (const BatchStatistics& part : parts) {
      const double part_m2 = part.count > 0 ? part.var[c] * static_cast<double>(part.count) : 0;
      MergeStats(1, &count, nullptr, &mean, &m2, &part.count, nullptr, &part.mean[c], &part_m2);
    }
  }

  double Var() const { return count > 0 ? m2 / static_cast<double>(count) : kNaN; }
};

// The first channel of which a statistic isn't finite, in the types of the running ones, if there are some; or their
// number.
std::size_t FirstNonfinite(const std::vector<MergedChannel>& merged, const RunningStats* running) {
  const ChannelVector mean = running ? running->mean : ChannelVector{}, var = running ? running->var : ChannelVector{};
  std::size_t c = 0;
  while (c < merged.size() &&
         (merged[c].count == 0 || (mean.IsFinite(merged[c].mean) && var.IsFinite(merged[c].Var()))))
    ++c;
  return c;
}

}  // namespace

bool ChannelStatistics(const ArrayView& x, std::size_t axis, const ArrayView* shared, double measure, Workers workers,
                       double* mean, double* m2, IntegerSums sums) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  const bool weighted = shared && shared->dtype != DType::kBool, integers = IsInteger(x.dtype) && !weighted;
  const bool exact = integers && std::ldexp(measure, 8 * static_cast<int>(ItemSize(x.dtype))) < kExact;
  if (measure == 0) {
    std::fill_n(mean, layout.channels, kNaN);
    std::fill_n(m2, layout.channels, 0.0);
    if (exact) {
      std::fill_n(sums.total, layout.channels, 0);
      std::fill_n(sums.squares, layout.channels, 0);
    }
    return exact;
  }
  if (layout.Values() == 0) return exact;
  const KernelTable& table = ActiveKernels();
  VisitSummed(weighted ? DType::kFloat64 : SumsDType(table, x, shared), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(x, layout, table);
    const Plan plan(layout, source, Purpose::kSums, CompanyOf(shared));
    const Workers several = WorkersFor(BytesOf(x), workers);
    const ArrayView *mask = weighted ? nullptr : shared, *weights = weighted ? shared : nullptr;
    const Mask masked(mask, layout, table, several);
    const auto run = [&](const auto& reducer, auto take) {
      const auto finish = [&](const Group<Lane<E>>& group) { reducer.Finish(group, take); };
      RunSweeps<Lane<E>>(plan, several, reducer, finish, NoMap{});
    };
    const auto take = [&](std::size_t c, double channel_mean, double channel_m2) {
      mean[c] = channel_mean;
      m2[c] = channel_m2;
    };
    if constexpr (!kByte<E>) {
      if (!integers) {
        return run(MomentReducer<E>(plan, table, layout, source, Precision::kWide, masked, weights), take);
      }
    }
    const Precision precision = ItemSize(x.dtype) == 1 ? Precision::kNarrow : Precision::kWide;
    run(IntegerReducer<E>(plan, table, source, precision, masked),
        [&](std::size_t c, double channel_mean, double channel_m2, std::int64_t total, std::int64_t squares) {
          take(c, channel_mean, channel_m2);
          sums.total[c] = total;
          sums.squares[c] = squares;
        });
  });
  return exact;
}

void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const Training& training, Workers workers,
                  std::vector<BatchStatistics>& parts, const BatchStatistics* whole) {
  const BatchSlices slices(x, axis, parts.size());
  const std::size_t channels = static_cast<std::size_t>(x.extents[axis]);
  const bool raises = training.on_nonfinite == OnNonfinite::kRaise;
  const bool guarded = training.on_nonfinite != OnNonfinite::kPropagate;
  const bool at_once = parts.size() == 1 && !guarded && !whole;
  const Storing storing = StoringFor(BytesOf(y), BytesOf(slices.Of(x, 0)));
  const auto run = [&](Steps steps) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto residual = slices.Of(training.epilogue.residual, i), signs = slices.Of(training.epilogue.signs, i);
      const auto mask = slices.Of(training.mask, i);
      TrainPart(slices.Of(x, i), slices.Of(y, i), axis, training,
                {training.epilogue.slope, PointerTo(residual), PointerTo(signs)}, PointerTo(mask),
                at_once ? training.running : nullptr, steps, storing, workers, parts[i]);
    }
  };
  run(raises ? Steps::kStatistics : Steps::kBoth);
  if (at_once) return;
  std::vector<MergedChannel> merged;
  for (std::size_t c = 0; c < channels; ++c) merged.emplace_back(c, parts);
  const std::size_t nonfinite = guarded ? FirstNonfinite(merged, training.running) : channels;
  const bool finite = nonfinite == channels;
  if (raises) {
    if (!finite) {
      throw std::domain_error("x: expected finite values, got a mean or a variance that is not finite in channel " +
                              std::to_string(nonfinite));
    }
    run(Steps::kMap);
  }
  for (std::size_t c = 0; c < channels; ++c) {
    const MergedChannel& all = merged[c];
    if (training.running && finite) training.running->Update(c, static_cast<double>(all.count), all.mean, all.m2);
    if (!whole) continue;
    whole->mean[c] = all.mean;
    whole->var[c] = all.Var();
    whole->rstd[c] = all.count > 0 ? ReciprocalStd(whole->var[c], training.eps) : kNaN;
  }
}

void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, const Epilogue& epilogue, double eps, const ArrayView* mask,
                      Workers workers) {
  MapAffine(x, y, axis, epilogue, mask, workers, [&](std::size_t c) {
    return ChannelAffine{mean.Get(c), affine.weight.GetOr(c, 1) * ReciprocalStd(var.Get(c), eps),
                         affine.bias.GetOr(c, 0)};
  });
}

void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, Workers workers) {
  MapAffine(y, x, axis, {}, nullptr, workers, [&](std::size_t c) {
    return ChannelAffine{affine.bias.GetOr(c, 0), std::sqrt(var.Get(c) + eps) / affine.weight.GetOr(c, 1), mean.Get(c)};
  });
}

}  // namespace batchnorm
