#include <cmath>
#include <numeric>
#include <optional>

#include "bindings/gradients.h"
#include "bindings/register.h"
#include "core/slices.h"

namespace batchnorm::bindings {
namespace {

// The arrays of a backward call.
struct GradientArrays {
  bool x_is_gone;
  py::array dy, like;  // like is x, or y where x is gone
  BesideArgument y;
  std::size_t axis, channels;
  py::array dx, dresidual = py::reinterpret_steal<py::array>(py::handle());

  GradientArrays(py::handle dy_object, py::handle x_object, py::handle y_object, py::handle axis_object)
      : x_is_gone(x_object.is_none() && !y_object.is_none()),
        dy(DataArray(dy_object, "dy")),
        like(x_is_gone ? DataArray(y_object, "y") : DataArray(x_object, "x")),
        y(y_object, "y", like) {
    RequireLike(dy, "dy", Like());
    axis = ChannelAxis(axis_object, like);
    channels = ChannelsOf(like, axis);
  }

  // dx, and dresidual if it is wanted: either may be dy, and they overlap nothing else.
  void MakeOutputs(py::handle out, bool with_dresidual, py::handle residual_out, std::vector<NamedArray> inputs) {
    inputs.insert(inputs.begin(), {{&dy, "dy"}, Like(), {&y.array(), "y"}});
    dx = Output(out, "out", Like(), dy, inputs);
    if (!with_dresidual && residual_out.is_none()) return;
    dresidual = Output(residual_out, "residual_out", Like(), dy, inputs);
    RequireApart(dresidual, "residual_out", {{&dx, "out"}});
  }

  NamedArray Like() const { return {&like, x_is_gone ? "y" : "x"}; }
  py::object DResidual() const { return dresidual ? py::object(dresidual) : py::none(); }
};

// How dy comes back through what the forward did after the transform.
class EpilogueArgument {
 public:
  // `residual`: None, or the forward's, which together with x stands in for y. `signs`: None, or those that were kept.
  EpilogueArgument(const GradientArrays& arrays, py::handle activation_object, const VectorArgument& weight,
                   const VectorArgument& bias, py::handle residual, py::handle signs)
      : activation_(activation_object, arrays.channels),
        residual_(residual, "residual", arrays.like),
        signs_(signs.is_none() ? SignArray() : SignArray(py::cast<py::tuple>(signs), arrays.like)) {
    gradient_.slope = activation_.slope();
    gradient_.affine = {weight.vector(), bias.vector()};
    // Signs don't tell the value before the activation, which dslope needs: x does.
    gradient_.y = arrays.y.view() || activation_.slopes() ? arrays.y.view() : signs_.view();
    if (activation_.given() && !gradient_.y) gradient_.residual = residual_.view();
    if (activation_.slopes()) {
      dslope_.emplace(activation_.slopes().dtype(), arrays.channels);
      gradient_.dslope = dslope_->vector;
    }
  }

  const ActivationArgument& activation() const { return activation_; }
  const py::array& residual() const { return residual_.array(); }
  py::object DSlope() const { return dslope_ ? py::object(dslope_->array) : py::none(); }

  // What the activation saw of a residual must be told by something beside x, and x must be there.
  void RequireTellingAfterResidual(const GradientArrays& arrays) const {
    if (arrays.x_is_gone) FailType("x", "the forward's x, because y can't tell it after a residual", "None");
    if (!activation_.given() || gradient_.y || gradient_.residual) return;
    FailType("y",
             activation_.slopes() ? "the forward's y, or its residual as residual=, because dslope needs it"
                                  : "the forward's y (or residual=, or keep_sign=True there), because the activation "
                                    "saw a residual too",
             "None");
  }

  // y tells the side of the kink where the slope lets it, and must let x be found where that is gone.
  void RequireTelling(const GradientArrays& arrays) const {
    if (!arrays.y.view() || !activation_.given()) return;
    const std::size_t channels = arrays.channels;
    for (std::size_t c = 0; c < channels; ++c) {
      const double slope = activation_.slope().Get(c);
      if (slope < 0 || (slope == 0 && activation_.slopes())) {
        FailValue("activation: slopes",
                  "positive slopes, because y must tell the value before the activation (leave y out; after a residual "
                  "give residual=)",
                  InChannel(slope, c));
      }
    }
  }

  EpilogueGradient Gradient(const ArrayView* dresidual, const ArrayView* mask) const {
    EpilogueGradient gradient = gradient_;
    gradient.mask = mask;
    gradient.dresidual = dresidual;
    return gradient;
  }

 private:
  ActivationArgument activation_;
  BesideArgument residual_;
  SignArray signs_;
  EpilogueGradient gradient_;
  std::optional<GradientVector> dslope_;
};

// What must hold so that x can be found from y. A renormalization takes the weight times r, which else is null.
void RequireInvertible(const ActivationArgument& activation, ChannelVector weight, const double* r,
                       std::size_t channels) {
  constexpr double kLeast = 1e-3;  // of a weight and a slope: y's rounding grows by its inverse
  for (std::size_t c = 0; c < channels; ++c) {
    const double of_weight = weight.GetOr(c, 1) * (r ? r[c] : 1), slope = activation.slope().GetOr(c, 1);
    if (!(std::abs(of_weight) >= kLeast)) {
      FailValue("weight", "absolute values >= 0.001, because x is found from y by dividing by the weight",
                InChannel(of_weight, c));
    }
    if (!(slope >= kLeast)) {
      FailValue("activation", "slopes >= 0.001, because x is found from y by dividing by the slope",
                activation.slopes() ? InChannel(slope, c) : Repr(activation.Saved()));
    }
  }
}

// The float64 (parts, rows, channels) array that a forward saved.
const double* SavedTable(py::handle object, std::size_t parts, std::size_t rows, std::size_t channels) {
  const py::array array = py::cast<py::array>(object);
  const bool fits = array.ndim() == 3 && static_cast<std::size_t>(array.shape(0)) == parts &&
                    static_cast<std::size_t>(array.shape(1)) == rows &&
                    static_cast<std::size_t>(array.shape(2)) == channels;
  if (!fits || array.dtype().num() != py::detail::npy_api::NPY_DOUBLE_ || !(array.flags() & py::array::c_style)) {
    FailValue("saved",
              "statistics of " + std::to_string(parts) + " groups and " + std::to_string(channels) + " channels",
              "shape " + ShapeOf(array));
  }
  return static_cast<const double*>(array.data());
}

// `groups`: None, or (mean, rstd and var of each part, their counts). `factors`: None, or r and d of each part.
std::vector<SavedPart> SavedParts(const double* mean, const double* rstd, py::handle groups, py::handle factors,
                                  std::size_t channels) {
  std::vector<SavedPart> parts = {{mean, rstd}};
  if (!groups.is_none()) {
    parts.resize(py::len(py::object(groups[py::int_(0)])));
    const double* statistics = SavedTable(groups[py::int_(0)], parts.size(), 3, channels);
    for (SavedPart& part : parts) {
      part = {statistics, statistics + channels};
      statistics += 3 * channels;
    }
  }
  if (!factors.is_none()) {
    const double* renorm = SavedTable(factors, parts.size(), 2, channels);
    for (SavedPart& part : parts) {
      part.r = renorm;
      part.d = renorm + channels;
      renorm += 2 * channels;
    }
  }
  return parts;
}

py::tuple TrainBackward(py::handle dy, py::handle x, const py::array& mean, const py::array& rstd, py::handle count,
                        py::handle weight_object, py::handle weight_dtype, py::handle bias_object, py::handle axis,
                        py::handle out, py::handle num_threads, py::handle activation_object, py::handle had_residual,
                        py::handle signs, py::handle y, py::handle residual, py::handle residual_out,
                        py::handle mask_object, py::handle factors, py::handle groups, py::handle flush_subnormals) {
  if (x.is_none() && y.is_none()) FailType("x", "an array, or None beside a y that it can be found from", "None");
  GradientArrays arrays(dy, x, y, axis);
  const double* means = SavedVector(mean, arrays.channels);
  const double* rstds = SavedVector(rstd, arrays.channels);
  const SharedArgument mask(mask_object, "saved: mask", SharedArgument::Kind::kMask, arrays.like, arrays.axis);
  const ArrayView x_view = ViewOf(arrays.like);
  std::vector<SavedPart> parts = SavedParts(means, rstds, groups, factors, arrays.channels);
  const BatchSlices slices(x_view, arrays.axis, parts.size());
  if (slices.size() != parts.size()) {
    FailValue("saved", "statistics of " + std::to_string(slices.size()) + " groups", std::to_string(parts.size()));
  }
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const std::vector<std::int64_t> counts = mask.Counts(x_view, arrays.axis, slices, workers);
  for (std::size_t i = 0; i < parts.size(); ++i) parts[i].count = counts[i];
  RequireCount(count, std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels), bias(bias_object, "saved", arrays.channels);
  const EpilogueArgument epilogue(arrays, activation_object, weight, bias, residual, signs);
  const bool with_residual = Flag(had_residual, "saved") || !residual.is_none();
  if (with_residual) epilogue.RequireTellingAfterResidual(arrays);
  if (arrays.x_is_gone) {
    for (const SavedPart& part : parts) {
      RequireInvertible(epilogue.activation(), weight.vector(), part.r, arrays.channels);
    }
  } else {
    epilogue.RequireTelling(arrays);
  }
  arrays.MakeOutputs(out, with_residual, residual_out,
                     {{&mean, "saved"},
                      {&rstd, "saved"},
                      {&weight.array(), "weight"},
                      {&epilogue.residual(), "residual"},
                      {&epilogue.activation().slopes(), "saved"},
                      {&mask.array(), "saved"}});
  const py::dtype dtype = ParameterDType(weight_dtype, weight, arrays.like);
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), dx_view = ViewOf(arrays.dx);
  const ArrayView dresidual_view = arrays.dresidual ? ViewOf(arrays.dresidual) : ArrayView{};
  const EpilogueGradient gradient = epilogue.Gradient(arrays.dresidual ? &dresidual_view : nullptr, mask.view());
  const ParameterGradients gradients{dweight.vector, dbias.vector, {}, {}};
  {
    const py::gil_scoped_release release;
    TrainBackward(dy_view, arrays.x_is_gone ? nullptr : &x_view, dx_view, arrays.axis, parts, gradient, workers,
                  gradients);
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array, arrays.DResidual(), epilogue.DSlope());
}

py::tuple InferenceBackward(py::handle dy, py::handle x, py::handle mean_object, py::handle var_object,
                            py::handle weight_object, py::handle bias_object, py::handle eps_object, py::handle axis,
                            py::handle out, py::handle num_threads, py::handle activation_object, py::handle residual,
                            py::handle y, py::handle residual_out, py::handle mask_object,
                            py::handle flush_subnormals) {
  if (x.is_none()) FailType("x", "an array", "None");
  GradientArrays arrays(dy, x, y, axis);
  const GivenStatistics given(mean_object, "running_mean", var_object, "running_var", arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels), bias(bias_object, "bias", arrays.channels);
  const double eps = Eps(eps_object);
  const EpilogueArgument epilogue(arrays, activation_object, weight, bias, residual, py::none());
  epilogue.RequireTelling(arrays);
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, arrays.like, arrays.axis);
  arrays.MakeOutputs(out, !residual.is_none(), residual_out,
                     {{&given.mean.array(), "running_mean"},
                      {&given.var.array(), "running_var"},
                      {&weight.array(), "weight"},
                      {&bias.array(), "bias"},
                      {&epilogue.residual(), "residual"},
                      {&epilogue.activation().slopes(), "activation: slopes"},
                      {&mask.array(), "mask"}});
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const py::dtype dtype = ParameterDType(py::none(), weight, arrays.like);
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const GradientVector dmean(given.mean.array().dtype(), arrays.channels),
      dvar(given.var.array().dtype(), arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), x_view = ViewOf(arrays.like), dx_view = ViewOf(arrays.dx);
  const ArrayView dresidual_view = arrays.dresidual ? ViewOf(arrays.dresidual) : ArrayView{};
  const EpilogueGradient gradient = epilogue.Gradient(arrays.dresidual ? &dresidual_view : nullptr, mask.view());
  {
    const py::gil_scoped_release release;
    InferenceBackward(dy_view, x_view, dx_view, arrays.axis, given.mean.vector(), given.var.vector(), gradient, eps,
                      workers, {dweight.vector, dbias.vector, dmean.vector, dvar.vector});
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array, arrays.DResidual(), epilogue.DSlope(), dmean.array,
                        dvar.array);
}

// Of a backward without an epilogue. `batch`: the statistics are functions of x.
py::tuple Double(py::handle ddx_object, py::handle ddweight_object, py::handle ddbias_object, py::handle dy_object,
                 py::handle x_object, const py::array& mean, const py::array& rstd, py::handle count,
                 py::handle weight_object, py::handle weight_dtype, py::handle axis_object, py::handle batch_object,
                 py::handle ddy_out, py::handle dx_out, py::handle num_threads, py::handle flush_subnormals) {
  const py::array dy = DataArray(dy_object, "dy"), x = DataArray(x_object, "x");
  RequireLike(dy, "dy", {&x, "x"});
  const std::size_t axis = ChannelAxis(axis_object, x), channels = ChannelsOf(x, axis);
  const BesideArgument ddx(ddx_object, "ddx", x);
  const VectorArgument ddweight(ddweight_object, "ddweight", channels), ddbias(ddbias_object, "ddbias", channels);
  const double *means = SavedVector(mean, channels), *rstds = SavedVector(rstd, channels);
  const bool batch = Flag(batch_object, "training");
  const ArrayView x_view = ViewOf(x), dy_view = ViewOf(dy);
  if (batch) RequireCount(count, CountOf(x_view, axis, nullptr, {1}), channels);
  const VectorArgument weight(weight_object, "weight", channels);
  const std::vector<NamedArray> inputs = {
      {&ddx.array(), "ddx"},      {&dy, "dy"}, {&x, "x"}, {&ddweight.array(), "ddweight"}, {&ddbias.array(), "ddbias"},
      {&weight.array(), "weight"}};
  const py::array ddy = Output(ddy_out, "out", {&x, "x"}, ddx.view() ? ddx.array() : dy, inputs);
  std::vector<NamedArray> all = inputs;
  all.push_back({&ddy, "out"});
  const py::array dx = Output(dx_out, "dx_out", {&x, "x"}, dy, all);
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const py::dtype dtype = ParameterDType(weight_dtype, weight, x);
  const GradientVector dweight(dtype, channels);
  const ArrayView ddy_view = ViewOf(ddy), dx_view = ViewOf(dx);
  {
    const py::gil_scoped_release release;
    DoubleBackward({ddx.view(), ddweight.vector(), ddbias.vector()}, dy_view, x_view, axis, means, rstds,
                   weight.vector(), batch, workers, ddy_view, dx_view, dweight.vector);
  }
  return py::make_tuple(ddy, dx, dweight.array);
}

}  // namespace

void RegisterBackward(py::module_& m) {
  m.def("batch_norm_backward", &TrainBackward);
  m.def("batch_norm_inference_backward", &InferenceBackward);
  m.def("batch_norm_double_backward", &Double);
}

}  // namespace batchnorm::bindings
