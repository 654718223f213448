#include <algorithm>
#include <array>
#include <cmath>

#include "core/affine_job.h"
#include "core/batch_norm.h"
#include "core/map.h"
#include "core/part_backward.h"
#include "core/shared.h"
#include "dispatch/dispatch.h"

namespace batchnorm {
namespace {

// The statistics that normalized a channel of what backward reads as x.
struct ChannelStat {
  double mean, rstd;
};

// sum(g) and sum(g * xhat) of a channel, and sum(dy * v) over what the activation scaled.
struct GradientSums {
  double g, g_xhat, dy_v;
};

// The arrays that backward reads and how dy comes back through the epilogue. Tile by tile, an x that is gone is found
// from y, and what the activation saw of a residual from x.
template <class E, class AffineAt>
class Inputs {
  using T = Lane<E>;

 public:
  // Parameters, behind those of a job: the transform that tells the side of the kink, the slope, and its inverse.
  enum { kCenter, kScale, kShift, kSlope, kUnslope, kFields };

  Inputs(const ArrayView& dy, const ArrayView* x, const EpilogueGradient& epilogue, AffineAt affine,
         const Layout& layout, const KernelTable& table, Workers workers)
      : dy_(dy, layout, table),
        x_(OperandOf<E>(x, layout, table)),
        y_(OperandOf<E>(epilogue.y, layout, table)),
        residual_(OperandOf<E>(epilogue.residual, layout, table)),
        mask_(epilogue.mask, layout, table, workers),
        slope_(epilogue.slope),
        affine_(affine) {}

  const Operand<E>& PlanFor() const { return x_ ? *x_ : *y_; }
  Gate gate() const { return !slope_ ? Gate::kOpen : y_ || residual_ ? Gate::kOfY : Gate::kOfX; }
  std::size_t fields() const { return gate() == Gate::kOpen ? 0 : kFields; }

  std::array<double, kFields> Parameters(std::size_t channel) const {
    const double slope = slope_.GetOr(channel, 1);
    const ChannelAffine a = y_ ? ChannelAffine{0, 1, 0} : InLanes<T>(affine_(channel));
    return {a.center, a.scale, a.shift, slope, y_ ? 1 / slope : 1};
  }

  // Behind `first` parameters of a job.
  GateParameters<T> GateOf(const ColumnParameters<T>& p, std::size_t first, const Block& block) const {
    if (gate() == Gate::kOpen) return {};
    return {p.At(first + kCenter, block), p.At(first + kScale, block), p.At(first + kShift, block),
            p.At(first + kSlope, block)};
  }

  GradientTiles<E> Read(const WalkKernels<E>& kernels, const ColumnParameters<T>& p, std::size_t first, bool with_x,
                        const Block& block, Scratch& scratch) const {
    GradientTiles<E> tiles = {dy_.Read(block, scratch, Scratch::kDy), {}, {}, mask_.Read(block, scratch)};
    // The transform, which is the identity where there is a y, and after it a slope of kUnslope.
    const auto transformed = [&](Fusion fusion, Tile<const E> in, Tile<const E> residual, Scratch::Slot slot) {
      const Tile<E> out = dy_.ScratchTile(block, scratch, slot);
      const GateParameters<T> a = GateOf(p, first, block);
      const T* unslope = p.At(first + kUnslope, block);
      for (std::size_t c = 0; c < out.channels; ++c) {
        kernels.affine[static_cast<std::size_t>(fusion)](
            ChannelOf(in, c), ChannelOf(residual, c), {},
            {a.center + c, a.scale + c, a.shift + c, p.RowsOf(block), unslope + c}, ChannelOf(out, c));
      }
      return ToRead(out);
    };
    if (y_) tiles.y = y_->Read(block, scratch, Scratch::kY);
    if (x_ && (with_x || !y_)) tiles.x = x_->Read(block, scratch, Scratch::kX);
    if (!x_) tiles.x = slope_ ? transformed(Fusion::kActivation, tiles.y, tiles.y, Scratch::kX) : tiles.y;
    if (!y_ && residual_ && slope_) {
      const Tile<const E> residual = residual_->Read(block, scratch, Scratch::kResidual);
      tiles.y = transformed(Fusion::kResidual, tiles.x, residual, Scratch::kY);
    }
    return tiles;
  }

 private:
  Operand<E> dy_;
  std::optional<Operand<E>> x_, y_, residual_;
  Mask mask_;
  ChannelVector slope_;
  AffineAt affine_;
};

// stat(channel) gives the ChannelStat.
template <class E, class In, class StatAt>
class GradientReducer {
  using T = Lane<E>;

 public:
  enum { kCenter, kRstd, kGate, kColumns = kGate + In::kFields };

  // Per channel in a partial: GradientSums, xhat with the mean rounded to T.
  std::size_t fields() const { return with_slope_ ? 3 : 2; }
  std::size_t columns() const { return kGate + in_.fields(); }

  GradientReducer(const Plan& plan, const KernelTable& table, const In& in, Precision precision, bool with_slope,
                  StatAt stat)
      : plan_(plan),
        kernels_(KernelsFor<E>(plan, table)),
        in_(in),
        precision_(precision),
        with_slope_(with_slope),
        stat_(stat) {}

  void Prepare(Group<T>& group, Scratch&) const {
    Columns(group).Fill(columns(), group.span, [&](std::size_t i) {
      const std::size_t channel = group.first + i;
      const ChannelStat s = stat_(channel);
      std::array<double, kColumns> all = {s.mean, s.rstd};
      if (in_.fields() > 0) {
        const auto gate = in_.Parameters(channel);
        std::copy(gate.begin(), gate.end(), all.begin() + kGate);
      }
      return all;
    });
  }

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    double* partial = group.Partial(chunk);
    std::fill_n(partial, fields() * group.channels, 0.0);
    const ColumnParameters<T> p = Columns(group);
    BlockSums sums(plan_, group.index, scratch);
    const auto gate = static_cast<std::size_t>(in_.gate());
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      const GradientTiles<E> tiles = in_.Read(kernels_, p, kGate, true, block, scratch);
      const GateParameters<T> gate_parameters = in_.GateOf(p, kGate, block);
      const auto take = [&](Precision precision) {
        kernels_.gradient_sums[gate][static_cast<std::size_t>(precision)](
            tiles, {p.At(kCenter, block), p.At(kRstd, block)}, gate_parameters, sums.first_columns(),
            sums.second_columns());
        sums.Fold(block);
      };
      // Float lanes overflow where dy is near the top of its range.
      const auto out_of_range = [](double g, double g_xhat) { return IsNotFinite(g) | IsNotFinite(g_xhat); };
      TakeInRange(precision_, block.channels, scratch, take, out_of_range, sums.first(), sums.second());
      double* into = partial + (block.channel - group.first);
      for (std::size_t c = 0; c < block.channels; ++c) {
        into[c] += sums.first()[c];
        into[group.channels + c] += sums.second()[c];
      }
      if (!with_slope_) return;
      kernels_.slope_sums[gate](tiles, gate_parameters, p.At(kGate + In::kUnslope, block), sums.first_columns(),
                                sums.second_columns());
      sums.Fold(block);
      for (std::size_t c = 0; c < block.channels; ++c) into[2 * group.channels + c] += sums.second()[c];
    });
  }

  // Adds the chunks, in their order, into the first; done(channel, GradientSums) takes them.
  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    double* total = group.AddChunks(plan_.chunks());
    for (std::size_t c = group.span.begin; c < group.span.end; ++c) {
      const ChannelStat s = stat_(group.first + c);
      double& g_xhat = total[group.channels + c];
      const double low = LostByRounding<T>(s.mean);
      if (low != 0) g_xhat -= low * s.rstd * total[c];
      done(group.first + c, SumsOf(group, c));
    }
  }

  // After Finish.
  GradientSums SumsOf(const Group<T>& group, std::size_t c) const {
    const double* total = group.partials + c;
    return {total[0], total[group.channels], with_slope_ ? total[2 * group.channels] : 0};
  }

 private:
  ColumnParameters<T> Columns(const Group<T>& group) const { return {plan_, group.index, group.start}; }

  const Plan& plan_;
  const WalkKernels<E>& kernels_;
  const In& in_;
  Precision precision_;
  bool with_slope_;
  StatAt stat_;
};

// dx = ((g - mean_g) + (x - center) * slope) * scale
struct ChannelGradient {
  double mean_g, center, slope, scale;
};

// The map of both forms: dx, and g for the residual. gradient(channel, GradientSums) gives the ChannelGradient; that of
// the inference form has a scale alone, and x plays no part in it but for the gate.
template <class E, class In, class GradientAt>
struct GradientJob {
  using T = Lane<E>;

  const In& in;
  bool statistics_are_functions_of_x;
  const Operand<E>* dresidual;
  bool dresidual_is_dy;
  GradientAt gradient;

  enum { kScale, kMeanG, kCenter, kSlope, kGate, kOne = kGate + In::kFields, kFields };

  std::size_t fields() const { return dresidual ? std::size_t{kFields} : kGate + in.fields(); }

  std::array<double, kFields> Parameters(const Group<T>& group, std::size_t c) const {
    const std::size_t channel = group.first + c;
    const ChannelGradient g = gradient(group, c);
    const double low = LostByRounding<T>(g.center);
    std::array<double, kFields> all = {g.scale, low == 0 ? g.mean_g : g.mean_g + low * g.slope, g.center, g.slope};
    all[kOne] = 1;
    if (in.fields() > 0) {
      const auto gate = in.Parameters(channel);
      std::copy(gate.begin(), gate.end(), all.begin() + kGate);
    }
    return all;
  }

  void Run(const WalkKernels<E>& kernels, const Block& block, const ColumnParameters<T>& p, Scratch& scratch,
           Tile<E> out) const {
    const auto gate = static_cast<std::size_t>(in.gate());
    const GradientTiles<E> tiles = in.Read(kernels, p, kGate, statistics_are_functions_of_x, block, scratch);
    const GateParameters<T> gate_parameters = in.GateOf(p, kGate, block);
    const auto write_dresidual = [&] {
      dresidual->Write(block, scratch, Scratch::kSecondOut, [&](Tile<E> g) {
        kernels.gated[gate](tiles, p.At(kOne, block), gate_parameters, p.RowsOf(block), g);
      });
    };
    // The one of the two outputs that may be dy comes last.
    if (dresidual && !dresidual_is_dy) write_dresidual();
    if (statistics_are_functions_of_x) {
      kernels.gradient[gate](
          tiles, {p.At(kMeanG, block), p.At(kCenter, block), p.At(kSlope, block), p.At(kScale, block), p.RowsOf(block)},
          gate_parameters, out);
    } else {
      kernels.gated[gate](tiles, p.At(kScale, block), gate_parameters, p.RowsOf(block), out);
    }
    if (dresidual && dresidual_is_dy) write_dresidual();
  }
};

void SetIfPresent(ChannelVector v, std::size_t channel, double value) {
  if (v) v.Set(channel, value);
}

void SetZero(std::size_t channels, const ParameterGradients& out, ChannelVector dslope) {
  for (const ChannelVector& v : {out.dweight, out.dbias, out.dmean, out.dvar, dslope}) {
    for (std::size_t c = 0; c < channels; ++c) SetIfPresent(v, c, 0);
  }
}

// What the two forms differ in.
//     kStatisticsAreFunctionsOfX
//     stat(c)                the ChannelStat that gives xhat of what is read as x
//     affine(c)              the forward's transform
//     gradient(c, sums)      the ChannelGradient
//     done(c, sums)          takes the sums
template <class Form>
void Backward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis,
              const EpilogueGradient& epilogue, Storing storing, Workers workers, std::int64_t count,
              const ParameterGradients& out, const Form& form) {
  const ArrayView& like = x ? *x : *epilogue.y;
  const Layout layout = LayoutOf(like, axis, Purpose::kSums);
  if (layout.ValuesPerChannel() == 0) SetZero(layout.channels, out, epilogue.dslope);
  if (layout.Values() == 0) return;
  const KernelTable& table = ActiveKernels();
  const auto affine = [&](std::size_t c) { return form.affine(c); };
  const DType dtype =
      KernelDType(table, {&like, &dy, &dx, epilogue.y, epilogue.residual, epilogue.dresidual}, epilogue.mask);
  VisitElement(dtype, [&](auto zero) {
    using E = decltype(zero);
    using In = Inputs<E, decltype(affine)>;
    const Workers several = WorkersFor(BytesOf(like), workers);
    const In in(dy, x, epilogue, affine, layout, table, several);
    const Operand<E> dx_operand(dx, layout, table, storing);
    const std::optional<Operand<E>> dresidual = OperandOf<E>(epilogue.dresidual, layout, table, storing);
    const Plan plan(layout, in.PlanFor(), Purpose::kSums, CompanyOf(epilogue.mask));
    const auto stat = [&](std::size_t c) { return form.stat(c); };
    const GradientReducer<E, In, decltype(stat)> reducer(plan, table, in, TrainingPrecision<E>(count),
                                                         static_cast<bool>(epilogue.dslope), stat);
    const auto gradient = [&](const Group<Lane<E>>& group, std::size_t c) {
      return form.gradient(group.first + c, reducer.SumsOf(group, c));
    };
    const bool dresidual_is_dy = dresidual && epilogue.dresidual->data == dy.data;
    const GradientJob<E, In, decltype(gradient)> job{in, Form::kStatisticsAreFunctionsOfX,
                                                     dresidual ? &*dresidual : nullptr, dresidual_is_dy, gradient};
    RunSweeps<Lane<E>>(
        plan, several, reducer,
        [&](const Group<Lane<E>>& group) {
          reducer.Finish(group, [&](std::size_t c, GradientSums sums) {
            out.dbias.Set(c, sums.g);
            out.dweight.Set(c, sums.g_xhat);
            SetIfPresent(epilogue.dslope, c, sums.dy_v);
            form.done(c, sums);
          });
        },
        Mapper(plan, table, dx_operand, job));
  });
}

struct TrainingForm {
  static constexpr bool kStatisticsAreFunctionsOfX = true;
  bool x_is_gone;
  const double *mean, *rstd;
  const AffineTransform& of;
  double count;

  // What is read in place of x is xhat * weight + bias. Where all is masked, there are no statistics.
  ChannelStat stat(std::size_t c) const {
    if (count == 0) return {0, 0};
    if (x_is_gone) return {of.bias.GetOr(c, 0), 1 / of.weight.GetOr(c, 1)};
    return {mean[c], rstd[c]};
  }
  ChannelAffine affine(std::size_t c) const { return {mean[c], of.weight.GetOr(c, 1) * rstd[c], of.bias.GetOr(c, 0)}; }
  ChannelGradient gradient(std::size_t c, GradientSums sums) const {
    const ChannelStat s = stat(c);
    return {sums.g / count, s.mean, -s.rstd * sums.g_xhat / count, of.weight.GetOr(c, 1) * rstd[c]};
  }
  void done(std::size_t, GradientSums) const {}
};

struct InferenceForm {
  static constexpr bool kStatisticsAreFunctionsOfX = false;
  ChannelVector mean, var;
  const AffineTransform& of;
  double eps;
  const ParameterGradients& out;

  ChannelStat stat(std::size_t c) const { return {mean.Get(c), ReciprocalStd(var.Get(c), eps)}; }
  ChannelAffine affine(std::size_t c) const {
    return {mean.Get(c), of.weight.GetOr(c, 1) * stat(c).rstd, of.bias.GetOr(c, 0)};
  }
  ChannelGradient gradient(std::size_t c, GradientSums) const { return {0, 0, 0, affine(c).scale}; }
  void done(std::size_t c, GradientSums sums) const {
    const double rstd = stat(c).rstd, scale = affine(c).scale;
    SetIfPresent(out.dmean, c, -scale * sums.g);
    SetIfPresent(out.dvar, c, -0.5 * scale * rstd * sums.g_xhat);
  }
};

}  // namespace

void PartBackward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis, const SavedPart& part,
                  const EpilogueGradient& epilogue, Storing storing, Workers workers, const ParameterGradients& out) {
  Backward(dy, x, dx, axis, epilogue, storing, workers, part.count, out,
           TrainingForm{!x, part.mean, part.rstd, epilogue.affine, static_cast<double>(part.count)});
}

void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, const EpilogueGradient& epilogue, double eps,
                       Workers workers, const ParameterGradients& out) {
  Backward(dy, &x, dx, axis, epilogue, StoringFor(BytesOf(dx), BytesOf(dy)), workers,
           CountOf(dy, axis, epilogue.mask, workers), out, InferenceForm{mean, var, epilogue.affine, eps, out});
}

}  // namespace batchnorm
