#include <algorithm>
#include <array>
#include <cmath>

#include "core/batch_norm.h"
#include "core/map.h"
#include "dispatch/dispatch.h"

namespace batchnorm {
namespace {

// Sums of a channel: of ddx and dy, of each times xhat, and of both together.
struct SecondSums {
  double ddx, ddx_xhat, dy, dy_xhat, ddx_dy;
};
// In a partial: each kernel gives two, so that of ddx is there twice.
enum { kDdx, kDdxXhat, kDy, kDyXhat, kDdxAgain, kDdxDy, kSecondSums };

// out = (x - mean) * of_x + ddx * of_ddx + dy * of_dy + constant
struct Combination {
  double of_x, of_ddx, of_dy, constant;
};

// What the outputs are made of (see DoubleBackward in batch_norm.h).
struct SecondForm {
  const SecondGradient& second;
  const double *mean, *rstd;
  ChannelVector weight;
  bool batch;  // statistics are functions of x
  double count;

  struct Of {
    double rstd, scale, ddweight, ddbias;
    double ddx, p, dy, q, s;  // means but for s
  };
  Of At(std::size_t c, const SecondSums& sums) const {
    const double w = weight.GetOr(c, 1), ddweight = second.ddweight.GetOr(c, 0), ddbias = second.ddbias.GetOr(c, 0);
    if (!batch) return {rstd[c], w * rstd[c], ddweight, ddbias, 0, 0, 0, 0, sums.ddx_dy};
    const double ddx = sums.ddx / count, p = sums.ddx_xhat / count, dy = sums.dy / count, q = sums.dy_xhat / count;
    return {rstd[c], w * rstd[c], ddweight, ddbias, ddx, p, dy, q, sums.ddx_dy - count * (ddx * dy + p * q)};
  }
  Combination Ddy(const Of& of) const {
    const double of_ddx = second.ddx ? of.scale : 0;
    return {(of.ddweight - of.scale * of.p) * of.rstd, of_ddx, 0, of.ddbias - of.scale * of.ddx};
  }
  Combination Dx(const Of& of) const {
    const double of_ddx = second.ddx ? -of.scale * of.q : 0, of_dy = of.ddweight - of.scale * of.p;  // of h
    const double mean_h = of_ddx * of.ddx + of_dy * of.dy, mean_h_xhat = of_ddx * of.p + of_dy * of.q;
    const double of_xhat = batch ? -of.rstd * (mean_h_xhat + of.scale * of.s / count) : 0;
    return {of_xhat * of.rstd, of_ddx * of.rstd, of_dy * of.rstd, -mean_h * of.rstd};
  }
  double Dweight(const Of& of) const { return of.rstd * of.s; }
};

template <class E>
struct SecondOperands {
  std::optional<Operand<E>> ddx;
  Operand<E> dy, x;
};

template <class E>
class SecondReducer {
  using T = Lane<E>;

 public:
  enum { kCenter, kRstd, kZero, kOne, kColumns };

  std::size_t fields() const { return kSecondSums; }
  std::size_t columns() const { return kColumns; }

  SecondReducer(const Plan& plan, const KernelTable& table, const SecondOperands<E>& in, Precision precision,
                const SecondForm& form)
      : plan_(plan), kernels_(KernelsFor<E>(plan, table)), in_(in), precision_(precision), form_(form) {}

  void Prepare(Group<T>& group, Scratch&) const {
    Columns(group).Fill(kColumns, group.span, [&](std::size_t i) {
      const std::size_t c = group.first + i;
      return std::array<double, kColumns>{form_.mean[c], form_.rstd[c], 0, 1};
    });
  }

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    double* partial = group.Partial(chunk);
    std::fill_n(partial, kSecondSums * group.channels, 0.0);
    const ColumnParameters<T> p = Columns(group);
    BlockSums sums(plan_, group.index, scratch);
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      // The sums of a, and of a * (b - center) * scale, into `field` and the one after it.
      const auto add = [&](Tile<const E> a, Tile<const E> b, NormalizedParameters<T> of_b, std::size_t field) {
        const auto take = [&](Precision precision) {
          kernels_.gradient_sums[0][static_cast<std::size_t>(precision)]({a, b, {}}, of_b, {}, sums.first_columns(),
                                                                         sums.second_columns());
          sums.Fold(block);
        };
        const auto out_of_range = [](double first, double second) { return IsNotFinite(first) | IsNotFinite(second); };
        TakeInRange(precision_, block.channels, scratch, take, out_of_range, sums.first(), sums.second());
        double* into = partial + field * group.channels + (block.channel - group.first);
        for (std::size_t c = 0; c < block.channels; ++c) {
          into[c] += sums.first()[c];
          into[group.channels + c] += sums.second()[c];
        }
      };
      const Tile<const E> dy = in_.dy.Read(block, scratch, Scratch::kDy);
      const Tile<const E> ddx = in_.ddx ? in_.ddx->Read(block, scratch, Scratch::kY) : Tile<const E>{};
      if (form_.batch) {
        const Tile<const E> x = in_.x.Read(block, scratch, Scratch::kX);
        const NormalizedParameters<T> of_x = {p.At(kCenter, block), p.At(kRstd, block)};
        if (in_.ddx) add(ddx, x, of_x, kDdx);
        add(dy, x, of_x, kDy);
      }
      if (in_.ddx) add(ddx, dy, {p.At(kZero, block), p.At(kOne, block)}, kDdxAgain);
    });
  }

  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    double* total = group.AddChunks(plan_.chunks());
    for (std::size_t c = group.span.begin; c < group.span.end; ++c) {
      // xhat with the mean rounded to T
      const double low = LostByRounding<T>(form_.mean[group.first + c]) * form_.rstd[group.first + c];
      for (std::size_t field : {kDdx, kDy}) {
        if (low == 0) continue;
        total[(field + 1) * group.channels + c] -= low * total[field * group.channels + c];
      }
      done(group.first + c, SumsOf(group, c));
    }
  }

  // After Finish.
  SecondSums SumsOf(const Group<T>& group, std::size_t c) const {
    const double* total = group.partials + c;
    const std::size_t n = group.channels;
    return {total[kDdx * n], total[kDdxXhat * n], total[kDy * n], total[kDyXhat * n], total[kDdxDy * n]};
  }

 private:
  ColumnParameters<T> Columns(const Group<T>& group) const { return {plan_, group.index, group.start}; }

  const Plan& plan_;
  const WalkKernels<E>& kernels_;
  const SecondOperands<E>& in_;
  Precision precision_;
  const SecondForm& form_;
};

// Writes ddy as the map's output, and dx beside it.
template <class E>
struct SecondJob {
  using T = Lane<E>;

  const SecondOperands<E>& in;
  const Operand<E>& dx;
  const SecondReducer<E>& reducer;
  const SecondForm& form;

  enum { kCenter, kDdy, kDx = kDdy + 4, kFields = kDx + 4 };

  std::size_t fields() const { return kFields; }

  std::array<double, kFields> Parameters(const Group<T>& group, std::size_t c) const {
    const double mean = form.mean[group.first + c], low = LostByRounding<T>(mean);
    const SecondForm::Of of = form.At(group.first + c, reducer.SumsOf(group, c));
    std::array<double, kFields> all = {mean};
    std::size_t i = kDdy;
    for (const Combination& v : {form.Ddy(of), form.Dx(of)}) {
      for (const double value : {v.of_x, v.of_ddx, v.of_dy, v.constant - low * v.of_x}) all[i++] = value;
    }
    return all;
  }

  void Run(const WalkKernels<E>& kernels, const Block& block, const ColumnParameters<T>& p, Scratch& scratch,
           Tile<E> out) const {
    const bool with_x = form.batch || form.second.ddweight;
    const Tile<const E> x = with_x ? in.x.Read(block, scratch, Scratch::kX) : Zeros(block, scratch);
    // For what plays no part. Where statistics are functions of x, x does: if it isn't finite, all of its channel is
    // NaN.
    const Tile<const E> nothing = form.batch || !with_x ? x : Zeros(block, scratch);
    const Tile<const E> dy = in.dy.Read(block, scratch, Scratch::kDy);
    const Tile<const E> ddx = in.ddx ? in.ddx->Read(block, scratch, Scratch::kY) : nothing;
    const auto combine = [&](std::size_t first, const GradientTiles<E>& tiles, Tile<E> to) {
      kernels.combine(tiles,
                      {p.At(kCenter, block), p.At(first, block), p.At(first + 1, block), p.At(first + 2, block),
                       p.At(first + 3, block), p.RowsOf(block)},
                      to);
    };
    dx.Write(block, scratch, Scratch::kSecondOut, [&](Tile<E> to) {
      combine(kDx, form.batch ? GradientTiles<E>{ddx, x, dy} : GradientTiles<E>{nothing, nothing, dy}, to);
    });
    combine(kDdy, {ddx, x, nothing}, out);
  }

 private:
  // 0 times what isn't finite would be NaN.
  Tile<const E> Zeros(const Block& block, Scratch& scratch) const {
    const Tile<E> tile = dx.ScratchTile(block, scratch, Scratch::kResidual);
    std::fill_n(tile.data, tile.rows * tile.cols, E{});
    return ToRead(tile);
  }
};

}  // namespace

void DoubleBackward(const SecondGradient& second, const ArrayView& dy, const ArrayView& x, std::size_t axis,
                    const double* mean, const double* rstd, ChannelVector weight, bool batch, Workers workers,
                    const ArrayView& ddy, const ArrayView& dx, ChannelVector dweight) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  for (std::size_t c = 0; c < layout.channels && layout.ValuesPerChannel() == 0; ++c) dweight.Set(c, 0);
  if (layout.Values() == 0) return;
  const std::int64_t count = CountOf(x, axis, nullptr, {1});
  const SecondForm form{second, mean, rstd, weight, batch, static_cast<double>(count)};
  const KernelTable& table = ActiveKernels();
  VisitLane(LaneOfDType(x.dtype), [&](auto zero) {
    using E = decltype(zero);
    const SecondOperands<E> in{OperandOf<E>(second.ddx, layout, table), {dy, layout, table}, {x, layout, table}};
    const std::size_t bytes = BytesOf(x);
    const Storing storing = StoringFor(BytesOf(ddy), 3 * bytes);
    const Operand<E> ddy_operand(ddy, layout, table, storing), dx_operand(dx, layout, table, storing);
    const Plan plan(layout, in.x, Purpose::kSums);
    const SecondReducer<E> reducer(plan, table, in, TrainingPrecision<E>(count), form);
    const SecondJob<E> job{in, dx_operand, reducer, form};
    RunSweeps<Lane<E>>(
        plan, WorkersFor(bytes, workers), reducer,
        [&](const Group<Lane<E>>& group) {
          reducer.Finish(
              group, [&](std::size_t c, const SecondSums& sums) { dweight.Set(c, form.Dweight(form.At(c, sums))); });
        },
        Mapper(plan, table, ddy_operand, job));
  });
}

}  // namespace batchnorm
