#include <cmath>
#include <optional>

#include "bindings/arguments.h"
#include "bindings/register.h"

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
    RequireLike(dy, "dy", like, x_is_gone ? "y" : "x");
    axis = ChannelAxis(axis_object, like);
    channels = ChannelsOf(like, axis);
  }

  // dx, and dresidual if it is wanted: either may be dy, and they overlap nothing else.
  void MakeOutputs(py::handle out, bool with_dresidual, py::handle residual_out, std::vector<NamedArray> inputs) {
    inputs.insert(inputs.begin(), {{&dy, "dy"}, {&like, x_is_gone ? "y" : "x"}, {&y.array(), "y"}});
    dx = Output(out, "out", like, dy, inputs);
    if (!with_dresidual && residual_out.is_none()) return;
    dresidual = Output(residual_out, "residual_out", like, dy, inputs);
    RequireApart(dresidual, "residual_out", {{&dx, "out"}});
  }

  py::object DResidual() const { return dresidual ? py::object(dresidual) : py::none(); }
};

// A fresh (channels,) vector for a parameter's gradient.
struct GradientVector {
  py::array array;
  ChannelVector vector;

  GradientVector(const py::dtype& dtype, std::size_t channels)
      : array(dtype, std::vector<py::ssize_t>{static_cast<py::ssize_t>(channels)}),
        vector{array.mutable_data(), DTypeOf(dtype), array.strides(0)} {}
};

// Of a parameter's gradient where there is no parameter.
py::dtype ParameterDType(const py::array& x) {
  return DTypeOf(x.dtype()) == DType::kFloat64 ? py::dtype::of<double>() : py::dtype::of<float>();
}

// Statistics that a forward call saved: float64, contiguous, one per channel.
const double* SavedVector(const py::array& array, std::size_t channels) {
  if (array.ndim() != 1 || static_cast<std::size_t>(array.shape(0)) != channels) {
    FailValue("saved", "statistics of " + std::to_string(channels) + " channels", "shape " + ShapeOf(array));
  }
  if (array.dtype().num() != py::detail::npy_api::NPY_DOUBLE_ || !(array.flags() & py::array::c_style)) {
    FailType("saved", "contiguous float64 statistics", py::str(array.dtype()).cast<std::string>());
  }
  return static_cast<const double*>(array.data());
}

// `counts` is one int for all channels, or an int64 array of one per channel.
void RequireCount(py::handle counts, std::int64_t count, std::size_t channels) {
  std::int64_t saved = count;
  if (PyLong_Check(counts.ptr())) {
    saved = counts.cast<std::int64_t>();
  } else {
    const auto array = py::cast<py::array_t<std::int64_t, py::array::c_style>>(counts);
    for (std::size_t c = 0; c < channels && saved == count; ++c) saved = array.data()[c];
  }
  if (saved != count) {
    FailValue("saved", "the statistics of x, " + std::to_string(count) + " values per channel",
              std::to_string(saved) + " values per channel");
  }
}

// How dy comes back through what the forward did after the transform.
class EpilogueArgument {
 public:
  // `residual`: None, or the forward's, which together with x stands in for y; or that there was one, and the signs
  // that were kept.
  EpilogueArgument(const GradientArrays& arrays, py::handle activation_object, const VectorArgument& weight,
                   const VectorArgument& bias, py::handle residual, py::handle signs)
      : activation_(activation_object, arrays.channels),
        residual_(residual, "residual", arrays.like),
        signs_(signs.is_none() ? SignArray() : SignArray(py::cast<py::tuple>(signs), arrays.like)) {
    gradient_.slope = activation_.slope();
    gradient_.affine = {weight.vector(), bias.vector()};
    gradient_.y = arrays.y.view() ? arrays.y.view() : signs_.view();
    gradient_.residual = residual_.view();
    if (activation_.slopes()) {
      dslope_.emplace(activation_.slopes().dtype(), arrays.channels);
      gradient_.dslope = dslope_->vector;
    }
  }

  const ActivationArgument& activation() const { return activation_; }
  const py::array& residual() const { return residual_.array(); }
  bool TellsSide() const { return gradient_.y != nullptr; }
  py::object DSlope() const { return dslope_ ? py::object(dslope_->array) : py::none(); }

  // y tells the side of the kink where the slope lets it, and must let x be found where that is gone.
  void RequireTelling(const GradientArrays& arrays) const {
    if (!arrays.y.view() || !activation_.given()) return;
    const std::size_t channels = arrays.channels;
    for (std::size_t c = 0; c < channels; ++c) {
      const double slope = activation_.slope().Get(c);
      if (slope < 0 || (slope == 0 && activation_.slopes())) {
        FailValue("activation: slopes", "positive slopes, because y must tell the value before the activation",
                  py::repr(py::float_(slope)).cast<std::string>() + " in channel " + std::to_string(c));
      }
    }
  }

  EpilogueGradient Gradient(const ArrayView* dresidual) const {
    EpilogueGradient gradient = gradient_;
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

// What must hold so that x can be found from y.
void RequireInvertible(const ActivationArgument& activation, const VectorArgument& weight, std::size_t channels) {
  constexpr double kLeast = 1e-3;  // of a weight and a slope: y's rounding grows by its inverse
  for (std::size_t c = 0; c < channels; ++c) {
    const double of_weight = std::abs(weight.vector().GetOr(c, 1)), slope = activation.slope().GetOr(c, 1);
    const std::string channel = " in channel " + std::to_string(c);
    if (!(of_weight >= kLeast)) {
      FailValue("weight", "absolute values >= 0.001, because x is found from y by dividing by the weight",
                py::repr(py::float_(weight.vector().Get(c))).cast<std::string>() + channel);
    }
    if (!(slope >= kLeast)) {
      FailValue("activation", "slopes >= 0.001, because x is found from y by dividing by the slope",
                py::repr(py::float_(slope)).cast<std::string>() + channel);
    }
  }
}

py::tuple Train(py::handle dy, py::handle x, const py::array& mean, const py::array& rstd, py::handle count,
                py::handle weight_object, py::handle weight_dtype, py::handle bias_object, py::handle axis,
                py::handle out, py::handle num_threads, py::handle activation_object, py::handle had_residual,
                py::handle signs, py::handle y, py::handle residual_out) {
  GradientArrays arrays(dy, x, y, axis);
  const double* means = SavedVector(mean, arrays.channels);
  const double* rstds = SavedVector(rstd, arrays.channels);
  RequireCount(count, CountOf(ViewOf(arrays.like), arrays.axis), arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels), bias(bias_object, "saved", arrays.channels);
  const EpilogueArgument epilogue(arrays, activation_object, weight, bias, py::none(), signs);
  const bool residual = Flag(had_residual, "saved");
  if (residual && arrays.x_is_gone) FailType("x", "an array, because a residual was added to its transform", "None");
  if (residual && epilogue.activation().given() && !epilogue.TellsSide()) {
    FailType("y", "the forward's y (or keep_sign=True there), because the activation saw a residual too", "None");
  }
  if (residual && epilogue.activation().slopes() && !arrays.y.view()) {
    FailType("y", "the forward's y, because dslope needs the residual", "None");
  }
  if (arrays.x_is_gone) {
    RequireInvertible(epilogue.activation(), weight, arrays.channels);
  } else {
    epilogue.RequireTelling(arrays);
  }
  arrays.MakeOutputs(
      out, residual, residual_out,
      {{&mean, "saved"}, {&rstd, "saved"}, {&weight.array(), "weight"}, {&epilogue.activation().slopes(), "saved"}});
  const int threads = Threads(num_threads);
  const py::dtype dtype = !weight_dtype.is_none() ? py::reinterpret_borrow<py::dtype>(weight_dtype)
                          : weight.given()        ? weight.array().dtype()
                                                  : ParameterDType(arrays.like);
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), x_view = ViewOf(arrays.like), dx_view = ViewOf(arrays.dx);
  const ArrayView dresidual_view = arrays.dresidual ? ViewOf(arrays.dresidual) : ArrayView{};
  const EpilogueGradient gradient = epilogue.Gradient(arrays.dresidual ? &dresidual_view : nullptr);
  {
    const py::gil_scoped_release release;
    TrainBackward(dy_view, arrays.x_is_gone ? nullptr : &x_view, dx_view, arrays.axis, means, rstds, gradient, threads,
                  {dweight.vector, dbias.vector, {}, {}});
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array, arrays.DResidual(), epilogue.DSlope());
}

py::tuple Inference(py::handle dy, py::handle x, py::handle mean_object, py::handle var_object,
                    py::handle weight_object, py::handle bias_object, py::handle eps_object, py::handle axis,
                    py::handle out, py::handle num_threads, py::handle activation_object, py::handle residual,
                    py::handle y, py::handle residual_out) {
  if (x.is_none()) FailType("x", "an array", "None");
  GradientArrays arrays(dy, x, y, axis);
  const GivenStatistics given(mean_object, "running_mean", var_object, "running_var", arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels), bias(bias_object, "bias", arrays.channels);
  const double eps = Eps(eps_object);
  const EpilogueArgument epilogue(arrays, activation_object, weight, bias, residual, py::none());
  epilogue.RequireTelling(arrays);
  arrays.MakeOutputs(out, !residual.is_none(), residual_out,
                     {{&given.mean.array(), "running_mean"},
                      {&given.var.array(), "running_var"},
                      {&weight.array(), "weight"},
                      {&bias.array(), "bias"},
                      {&epilogue.residual(), "residual"},
                      {&epilogue.activation().slopes(), "activation: slopes"}});
  const int threads = Threads(num_threads);
  const py::dtype dtype = weight.given() ? weight.array().dtype() : ParameterDType(arrays.like);
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const GradientVector dmean(given.mean.array().dtype(), arrays.channels),
      dvar(given.var.array().dtype(), arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), x_view = ViewOf(arrays.like), dx_view = ViewOf(arrays.dx);
  const ArrayView dresidual_view = arrays.dresidual ? ViewOf(arrays.dresidual) : ArrayView{};
  const EpilogueGradient gradient = epilogue.Gradient(arrays.dresidual ? &dresidual_view : nullptr);
  {
    const py::gil_scoped_release release;
    InferenceBackward(dy_view, x_view, dx_view, arrays.axis, given.mean.vector(), given.var.vector(), gradient, eps,
                      threads, {dweight.vector, dbias.vector, dmean.vector, dvar.vector});
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array, arrays.DResidual(), epilogue.DSlope(), dmean.array,
                        dvar.array);
}

}  // namespace

void RegisterBackward(py::module_& m) {
  m.def("batch_norm_backward", &Train);
  m.def("batch_norm_inference_backward", &Inference);
}

}  // namespace batchnorm::bindings
