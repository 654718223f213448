#include <numeric>

#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/slices.h"
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
void CheckSingle(std::int64_t count, py::handle on_single, const py::array& x, bool several) {
  const auto policy = static_cast<OnSingle>(Choice(on_single, "on_single", {"error", "warn", "allow"}));
  if (count != 1 || x.size() == 0 || policy == OnSingle::kAllow) return;
  const std::string message = "x: expected more than one value per channel" + std::string(several ? " and group" : "") +
                              " to train on, got shape " + ShapeOf(x);
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

  py::array Saved() const { return ReadOnly(array_); }

 private:
  std::size_t channels_;
  py::array_t<double> array_;
  double* data_;
};

// Whether y overwrote x.
bool Shares(const py::array& x, const py::array& y) { return x.size() > 0 && y.data() == x.data(); }

// What `renorm` asks for, with the running statistics that it needs.
class RenormalizationArgument {
 public:
  RenormalizationArgument(py::handle object, const RunningArgument& mean, const RunningArgument& var) {
    const auto bounds = RenormBounds(object);
    if (!bounds) return;
    if (!mean.given()) FailType("running_mean", "an array, because renorm compares the batch with it", "None");
    RequireNoNegative(var, "running_var", static_cast<std::size_t>(var.array().size()));
    value_ = {mean.vector(), var.vector(), bounds->first, bounds->second};
  }

  explicit operator bool() const { return value_.has_value(); }
  const Renormalization* get() const { return value_ ? &*value_ : nullptr; }

 private:
  std::optional<Renormalization> value_;
};

// Float64 (parts, 3, channels) for mean, rstd and var of each part of a batch, (parts, 2, channels) for r and d.
class PartStates {
 public:
  PartStates(std::size_t parts, std::size_t channels, bool several, bool renormalizes, State& whole)
      : several_(several) {
    const auto n = static_cast<py::ssize_t>(parts), c = static_cast<py::ssize_t>(channels);
    if (several) statistics_.emplace(std::vector<py::ssize_t>{n, 3, c});
    if (renormalizes) factors_.emplace(std::vector<py::ssize_t>{n, 2, c});
    for (std::size_t i = 0; i < parts; ++i) {
      const auto row = [&](std::size_t r) {
        return several ? statistics_->mutable_data() + (3 * i + r) * channels : whole.Row(r);
      };
      BatchStatistics batch{row(0), row(1), row(2)};
      if (renormalizes) {
        batch.r = factors_->mutable_data() + 2 * i * channels;
        batch.d = batch.r + channels;
      }
      batches_.push_back(batch);
    }
  }

  std::vector<BatchStatistics>& batches() { return batches_; }

  py::object Factors() const { return factors_ ? py::object(ReadOnly(*factors_)) : py::none(); }
  py::object Saved() const {
    if (!several_) return py::none();
    py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(batches_.size()));
    for (std::size_t i = 0; i < batches_.size(); ++i) counts.mutable_data()[i] = batches_[i].count;
    return py::make_tuple(ReadOnly(*statistics_), ReadOnly(counts));
  }

 private:
  bool several_;
  std::optional<py::array_t<double>> statistics_, factors_;
  std::vector<BatchStatistics> batches_;
};

py::tuple Train(py::handle x_object, py::handle weight_object, py::handle bias_object, py::handle mean_object,
                py::handle var_object, py::handle momentum, py::handle momentum_of, py::handle unbiased,
                py::handle update_stats, py::handle on_single, py::handle eps_object, py::handle axis_object,
                py::handle out, py::handle num_threads, py::handle activation_object, py::handle residual_object,
                py::handle keep_sign, py::handle mask_object, py::handle groups, py::handle renorm,
                py::handle on_nonfinite, py::handle flush_subnormals) {
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
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, x, axis);
  const double eps = Eps(eps_object);
  const RenormalizationArgument renormalization(renorm, running_mean, running_var);
  const auto nonfinite =
      static_cast<OnNonfinite>(Choice(on_nonfinite, "on_nonfinite", {"propagate", "raise", "skip_update"}));
  const ArrayView x_view = ViewOf(x);
  const BatchSlices slices(x_view, axis, PositiveInt(groups, "groups"));
  const std::vector<NamedArray> inputs = {{&x, "x"},
                                          {&weight.array(), "weight"},
                                          {&bias.array(), "bias"},
                                          {&residual.array(), "residual"},
                                          {&activation.slopes(), "activation: slopes"},
                                          {&mask.array(), "mask"},
                                          {&running_mean.array(), "running_mean"},
                                          {&running_var.array(), "running_var"}};
  const py::array y = Output(out, "out", inputs.front(), x, inputs);
  if (running_mean.given()) {
    const std::vector<NamedArray> before(inputs.begin(), inputs.end() - 2);
    RequireApart(running_var.array(), "running_var", before);
    RequireApart(running_mean.array(), "running_mean", before);
    RequireApart(running_mean.array(), "running_mean", {inputs.back()});
  }
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  ActiveKernels();
  State state(channels, weight, bias);
  const bool several = slices.size() > 1;
  PartStates parts(slices.size(), channels, several, static_cast<bool>(renormalization), state);
  const std::vector<std::int64_t> counts = mask.Counts(x_view, axis, slices, workers);
  for (std::size_t i = 0; i < slices.size(); ++i) {
    parts.batches()[i].count = counts[i];
    CheckSingle(counts[i], on_single, x, several);
  }
  const ArrayView y_view = ViewOf(y);
  const SignArray signs = keeps_sign ? SignArray(x) : SignArray();
  const Training training{{weight.vector(), bias.vector()},
                          {activation.slope(), residual.view(), signs.view()},
                          eps,
                          update ? &running : nullptr,
                          renormalization.get(),
                          nonfinite,
                          mask.view()};
  const BatchStatistics whole{state.Row(0), state.Row(1), state.Row(2)};
  {
    const py::gil_scoped_release release;
    TrainForward(x_view, y_view, axis, training, workers, parts.batches(), several ? &whole : nullptr);
  }
  const py::object weight_dtype = weight.given() ? py::object(weight.array().dtype()) : py::none();
  const bool residual_given = residual.view() != nullptr;
  return py::make_tuple(
      y, py::make_tuple(state.Saved(), std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), eps, given_axis,
                        weight_dtype, Shares(x, y), activation.Saved(), residual_given, signs.Saved(),
                        mask.Saved(workers), parts.Factors(), parts.Saved()));
}

py::tuple Inference(py::handle x_object, py::handle mean_object, py::handle var_object, py::handle weight_object,
                    py::handle bias_object, py::handle eps_object, py::handle axis_object, py::handle out,
                    py::handle num_threads, py::handle activation_object, py::handle residual_object,
                    py::handle mask_object, py::handle flush_subnormals) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const std::size_t channels = ChannelsOf(x, axis);
  const GivenStatistics given(mean_object, "running_mean", var_object, "running_var", channels);
  const VectorArgument weight(weight_object, "weight", channels), bias(bias_object, "bias", channels);
  const double eps = Eps(eps_object);
  const ActivationArgument activation(activation_object, channels);
  const BesideArgument residual(residual_object, "residual", x);
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, x, axis);
  const std::vector<NamedArray> inputs = {{&x, "x"},
                                          {&given.mean.array(), "running_mean"},
                                          {&given.var.array(), "running_var"},
                                          {&weight.array(), "weight"},
                                          {&bias.array(), "bias"},
                                          {&residual.array(), "residual"},
                                          {&activation.slopes(), "activation: slopes"},
                                          {&mask.array(), "mask"}};
  const py::array y = Output(out, "out", inputs.front(), x, inputs);
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const ArrayView x_view = ViewOf(x), y_view = ViewOf(y);
  {
    const py::gil_scoped_release release;
    InferenceForward(x_view, y_view, axis, given.mean.vector(), given.var.vector(), {weight.vector(), bias.vector()},
                     {activation.slope(), residual.view(), nullptr}, eps, mask.view(), workers);
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
                  py::handle num_threads, py::handle flush_subnormals) {
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
  const py::array x = Output(out, "out", inputs.front(), y, inputs);
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const ArrayView y_view = ViewOf(y), x_view = ViewOf(x);
  {
    const py::gil_scoped_release release;
    Denormalize(y_view, x_view, axis, given.mean.vector(), given.var.vector(), {weight.vector(), bias.vector()}, eps,
                workers);
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
