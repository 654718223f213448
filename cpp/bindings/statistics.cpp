#include <pybind11/stl.h>

#include <optional>

#include "bindings/arguments.h"
#include "bindings/register.h"

namespace batchnorm::bindings {
namespace {

using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;

// (count, what weights add up to or None, mean, m2)
py::tuple Statistics(py::handle x_object, py::handle axis_object, py::handle num_threads, py::handle mask_object,
                     py::handle weights_object, py::handle flush_subnormals) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, x, axis);
  const SharedArgument weights(weights_object, "weights", SharedArgument::Kind::kWeights, x, axis);
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const auto channels = static_cast<py::ssize_t>(ChannelsOf(x, axis));
  Doubles mean(channels), m2(channels);
  double *mean_data = mean.mutable_data(), *m2_data = m2.mutable_data();
  const ArrayView view = ViewOf(x);
  std::int64_t count = 0;
  double measure = 0;
  {
    const py::gil_scoped_release release;
    count = CountOf(view, axis, mask.view());
    measure = weights.view() ? SumOfWeights(view, axis, *weights.view()) : static_cast<double>(count);
    ChannelStatistics(view, axis, weights.view() ? weights.view() : mask.view(), measure, workers, mean_data, m2_data);
  }
  return py::make_tuple(count, weights.view() ? py::object(py::float_(measure)) : py::none(), mean, m2);
}

py::tuple Extremes(py::handle x_object, py::handle axis_object, py::handle mask_object, py::handle num_threads) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, x, axis);
  const Workers workers = WorkersOf(num_threads, py::bool_(false));
  const auto channels = static_cast<py::ssize_t>(ChannelsOf(x, axis));
  Doubles low(channels), high(channels);
  double *low_data = low.mutable_data(), *high_data = high.mutable_data();
  const ArrayView view = ViewOf(x);
  {
    const py::gil_scoped_release release;
    ChannelExtremes(view, axis, mask.view(), workers, low_data, high_data);
  }
  return py::make_tuple(low, high);
}

// The arrays of ChannelStats, which made and checked them: contiguous, of one length. Refused where they aren't.
void RequireState(const Counts& count, const std::optional<Doubles>& weights, const Doubles& mean, const Doubles& m2) {
  const bool weights_fit = !weights || (weights->ndim() == 1 && weights->size() == count.size());
  if (count.ndim() != 1 || mean.ndim() != 1 || m2.ndim() != 1 || mean.size() != count.size() ||
      m2.size() != count.size() || !weights_fit) {
    FailValue("stats", "count, weights, mean and m2 of one length",
              ShapeOf(count) + ", " + ShapeOf(mean) + ", " + ShapeOf(m2));
  }
}

// Weights on both sides, or on none.
void Merge(Counts count, std::optional<Doubles> weights, Doubles mean, Doubles m2, const Counts& other_count,
           const std::optional<Doubles>& other_weights, const Doubles& other_mean, const Doubles& other_m2) {
  RequireState(count, weights, mean, m2);
  RequireState(other_count, other_weights, other_mean, other_m2);
  if (count.size() != other_count.size() || weights.has_value() != other_weights.has_value()) {
    FailValue("other", std::to_string(count.size()) + " channels", std::to_string(other_count.size()));
  }
  MergeStats(static_cast<std::size_t>(count.size()), count.mutable_data(), weights ? weights->mutable_data() : nullptr,
             mean.mutable_data(), m2.mutable_data(), other_count.data(),
             other_weights ? other_weights->data() : nullptr, other_mean.data(), other_m2.data());
}

// `weights` are what the values weigh together, or their number.
void UpdateRunning(py::handle mean_object, py::handle var_object, const Doubles& weights, const Doubles& mean,
                   const Doubles& m2, py::handle momentum, py::handle momentum_of, py::handle unbiased) {
  RequireState(Counts(mean.size()), weights, mean, m2);
  const auto channels = static_cast<std::size_t>(mean.size());
  const RunningArgument running_mean(mean_object, "running_mean", channels),
      running_var(var_object, "running_var", channels);
  if (!running_mean.given()) FailType("running_mean", "a NumPy array", "None");
  if (!running_var.given()) FailType("running_var", "a NumPy array", "None");
  const RunningStats running{running_mean.vector(), running_var.vector(), MomentumOfNew(momentum, momentum_of),
                             Flag(unbiased, "unbiased")};
  RequireApart(running_mean.array(), "running_mean", {{&running_var.array(), "running_var"}});
  for (std::size_t c = 0; c < channels; ++c) running.Update(c, weights.data()[c], mean.data()[c], m2.data()[c]);
}

}  // namespace

void RegisterStatistics(py::module_& m) {
  m.def("channel_stats", &Statistics);
  m.def("channel_extremes", &Extremes);
  m.def("merge_stats", &Merge, py::arg("count").noconvert(), py::arg("weights").noconvert(),
        py::arg("mean").noconvert(), py::arg("m2").noconvert(), py::arg("other_count").noconvert(),
        py::arg("other_weights").noconvert(), py::arg("other_mean").noconvert(), py::arg("other_m2").noconvert(),
        py::pos_only());
  m.def("update_running_stats", &UpdateRunning);
}

}  // namespace batchnorm::bindings
