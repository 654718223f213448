#include "bindings/arguments.h"
#include "bindings/register.h"
#include "dispatch/dispatch.h"

namespace batchnorm::bindings {
namespace {

enum class OnSingle { kError, kWarn, kAllow };

// The stack level, as warnings count it, of the first caller outside this package.
py::ssize_t CallerLevel() {
  py::ssize_t level = 1;
  py::object frame = py::module_::import("sys").attr("_getframe")();
  while (!frame.is_none()) {
    const py::object name = frame.attr("f_globals").attr("get")("__name__", "");
    if (!name.attr("startswith")("batchnorm.").cast<bool>()) break;
    frame = frame.attr("f_back");
    ++level;
  }
  return level;
}

// One value per channel has no spread: its normalized value is 0 whatever it was.
void CheckSingle(std::int64_t count, py::handle on_single, const py::array& x) {
  const auto policy = static_cast<OnSingle>(Choice(on_single, "on_single", {"error", "warn", "allow"}));
  if (count != 1 || x.size() == 0 || policy == OnSingle::kAllow) return;
  const std::string message = "x: expected more than one value per channel to train on, got shape " + ShapeOf(x);
  if (policy == OnSingle::kError) throw py::value_error(message);
  if (PyErr_WarnEx(PyExc_UserWarning, message.c_str(), CallerLevel()) < 0) throw py::error_already_set();
}

// Float64 (rows, channels) for the statistics that a training call saves: mean, rstd, var, weight, bias.
class State {
 public:
  State(std::size_t channels, const VectorArgument& weight, const VectorArgument& bias)
      : channels_(channels),
        array_(std::vector<py::ssize_t>{3 + weight.given() + bias.given(), static_cast<py::ssize_t>(channels)}),
        data_(array_.mutable_data()) {
    double* row = data_ + 3 * channels;
    for (const VectorArgument* v : {&weight, &bias}) {
      if (!v->given()) continue;
      for (std::size_t c = 0; c < channels; ++c) row[c] = v->vector().Get(c);
      row += channels;
    }
  }

  double* Row(std::size_t i) { return data_ + i * channels_; }

  py::array ReadOnly() {
    py::detail::array_proxy(array_.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return array_;
  }

 private:
  std::size_t channels_;
  py::array_t<double> array_;
  double* data_;
};

// Whether y overwrote x.
bool Shares(const py::array& x, const py::array& y) { return x.size() > 0 && y.data() == x.data(); }

py::tuple Train(py::handle x_object, py::handle weight_object, py::handle bias_object, py::handle mean_object,
                py::handle var_object, py::handle momentum, py::handle momentum_of, py::handle unbiased,
                py::handle update_stats, py::handle on_single, py::handle eps_object, py::handle axis_object,
                py::handle out, py::handle num_threads, py::handle activation_object, py::handle residual_object,
                py::handle keep_sign) {
  const py::array x = DataArray(x_object, "x");
  py::ssize_t given_axis = 0;
  const std::size_t axis = ChannelAxis(axis_object, x, &given_axis);
  const std::size_t channels = ChannelsOf(x, axis);
  const VectorArgument weight(weight_object, "weight", channels), bias(bias_object, "bias", channels);
  const RunningArgument running_mean(mean_object, "running_mean", channels);
  const RunningArgument running_var(var_object, "running_var", channels);
  if (running_mean.given() != running_var.given()) {
    FailValue("running_mean", "running_mean and running_var together",
              running_mean.given() ? "running_mean alone" : "running_var alone");
  }
  RunningStats running{running_mean.vector(), running_var.vector(), MomentumOfNew(momentum, momentum_of),
                       Flag(unbiased, "unbiased")};
  const bool update = Flag(update_stats, "update_stats") && running_mean.given();
  const ActivationArgument activation(activation_object, channels);
  const BesideArgument residual(residual_object, "residual", x);
  const bool keeps_sign = Flag(keep_sign, "keep_sign") && activation.given();
  const std::int64_t count = CountOf(ViewOf(x), axis);
  const double eps = Eps(eps_object);
  const std::vector<NamedArray> inputs = {{&x, "x"},
                                          {&weight.array(), "weight"},
                                          {&bias.array(), "bias"},
                                          {&residual.array(), "residual"},
                                          {&activation.slopes(), "activation: slopes"},
                                          {&running_mean.array(), "running_mean"},
                                          {&running_var.array(), "running_var"}};
  const py::array y = Output(out, "out", x, x, inputs);
  if (running_mean.given()) {
    const std::vector<NamedArray> before(inputs.begin(), inputs.end() - 2);
    RequireApart(running_var.array(), "running_var", before);
    RequireApart(running_mean.array(), "running_mean", before);
    RequireApart(running_mean.array(), "running_mean", {inputs.back()});
  }
  const int threads = Threads(num_threads);
  ActiveKernels();
  CheckSingle(count, on_single, x);
  State state(channels, weight, bias);
  const ArrayView x_view = ViewOf(x), y_view = ViewOf(y);
  const SignArray signs = keeps_sign ? SignArray(x) : SignArray();
  {
    const py::gil_scoped_release release;
    TrainForward(x_view, y_view, axis, {weight.vector(), bias.vector()},
                 {activation.slope(), residual.view(), signs.view()}, eps, update ? &running : nullptr, threads,
                 state.Row(0), state.Row(1), state.Row(2));
  }
  const py::object weight_dtype = weight.given() ? py::object(weight.array().dtype()) : py::none();
  const bool residual_given = residual.view() != nullptr;
  return py::make_tuple(y, py::make_tuple(state.ReadOnly(), count, eps, given_axis, weight_dtype, Shares(x, y),
                                          activation.Saved(), residual_given, signs.Saved()));
}

py::tuple Inference(py::handle x_object, py::handle mean_object, py::handle var_object, py::handle weight_object,
                    py::handle bias_object, py::handle eps_object, py::handle axis_object, py::handle out,
                    py::handle num_threads, py::handle activation_object, py::handle residual_object) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const std::size_t channels = ChannelsOf(x, axis);
  const GivenStatistics given(mean_object, "running_mean", var_object, "running_var", channels);
  const VectorArgument weight(weight_object, "weight", channels), bias(bias_object, "bias", channels);
  const double eps = Eps(eps_object);
  const ActivationArgument activation(activation_object, channels);
  const BesideArgument residual(residual_object, "residual", x);
  const std::vector<NamedArray> inputs = {{&x, "x"},
                                          {&given.mean.array(), "running_mean"},
                                          {&given.var.array(), "running_var"},
                                          {&weight.array(), "weight"},
                                          {&bias.array(), "bias"},
                                          {&residual.array(), "residual"},
                                          {&activation.slopes(), "activation: slopes"}};
  const py::array y = Output(out, "out", x, x, inputs);
  const int threads = Threads(num_threads);
  const ArrayView x_view = ViewOf(x), y_view = ViewOf(y);
  {
    const py::gil_scoped_release release;
    InferenceForward(x_view, y_view, axis, given.mean.vector(), given.var.vector(), {weight.vector(), bias.vector()},
                     {activation.slope(), residual.view(), nullptr}, eps, threads);
  }
  return py::make_tuple(y, Shares(x, y));
}

void RequireNonzero(const VectorArgument& weight, std::size_t channels) {
  for (std::size_t c = 0; weight.given() && c < channels; ++c) {
    if (weight.vector().Get(c) == 0) {
      FailValue("weight", "no zero, because a zero weight can't be undone", "0 in channel " + std::to_string(c));
    }
  }
}

py::array Inverse(py::handle y_object, py::handle mean_object, py::handle var_object, py::handle weight_object,
                  py::handle bias_object, py::handle eps_object, py::handle axis_object, py::handle out,
                  py::handle num_threads) {
  const py::array y = DataArray(y_object, "y");
  const std::size_t axis = ChannelAxis(axis_object, y);
  const std::size_t channels = ChannelsOf(y, axis);
  const GivenStatistics given(mean_object, "mean", var_object, "var", channels);
  const VectorArgument weight(weight_object, "weight", channels), bias(bias_object, "bias", channels);
  RequireNonzero(weight, channels);
  const double eps = Eps(eps_object);
  const std::vector<NamedArray> inputs = {{&y, "y"},
                                          {&given.mean.array(), "mean"},
                                          {&given.var.array(), "var"},
                                          {&weight.array(), "weight"},
                                          {&bias.array(), "bias"}};
  const py::array x = Output(out, "out", y, y, inputs);
  const int threads = Threads(num_threads);
  const ArrayView y_view = ViewOf(y), x_view = ViewOf(x);
  {
    const py::gil_scoped_release release;
    Denormalize(y_view, x_view, axis, given.mean.vector(), given.var.vector(), {weight.vector(), bias.vector()}, eps,
                threads);
  }
  return x;
}

}  // namespace

void RegisterForward(py::module_& m) {
  m.def("batch_norm_train", &Train);
  m.def("batch_norm_inference", &Inference);
  m.def("denormalize", &Inverse);
}

}  // namespace batchnorm::bindings
