#include "bindings/arguments.h"
#include "bindings/register.h"

namespace batchnorm::bindings {
namespace {

using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;

py::tuple Statistics(py::handle x_object, py::handle axis_object, py::handle num_threads) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const int threads = Threads(num_threads);
  const auto channels = static_cast<py::ssize_t>(ChannelsOf(x, axis));
  Doubles mean(channels), m2(channels);
  double *mean_data = mean.mutable_data(), *m2_data = m2.mutable_data();
  const ArrayView view = ViewOf(x);
  {
    const py::gil_scoped_release release;
    ChannelStatistics(view, axis, threads, mean_data, m2_data);
  }
  return py::make_tuple(CountOf(ViewOf(x), axis), mean, m2);
}

// The arrays of ChannelStats, which made and checked them: contiguous, of one length. Refused where they aren't.
void RequireState(const Counts& count, const Doubles& mean, const Doubles& m2) {
  if (count.ndim() != 1 || mean.ndim() != 1 || m2.ndim() != 1 || mean.size() != count.size() ||
      m2.size() != count.size()) {
    FailValue("stats", "count, mean and m2 of one length", ShapeOf(count) + ", " + ShapeOf(mean) + ", " + ShapeOf(m2));
  }
}

void Merge(Counts count, Doubles mean, Doubles m2, const Counts& other_count, const Doubles& other_mean,
           const Doubles& other_m2) {
  RequireState(count, mean, m2);
  RequireState(other_count, other_mean, other_m2);
  if (count.size() != other_count.size()) {
    FailValue("other", std::to_string(count.size()) + " channels", std::to_string(other_count.size()));
  }
  MergeStats(static_cast<std::size_t>(count.size()), count.mutable_data(), mean.mutable_data(), m2.mutable_data(),
             other_count.data(), other_mean.data(), other_m2.data());
}

void UpdateRunning(py::handle mean_object, py::handle var_object, const Counts& count, const Doubles& mean,
                   const Doubles& m2, py::handle momentum, py::handle momentum_of, py::handle unbiased) {
  RequireState(count, mean, m2);
  const auto channels = static_cast<std::size_t>(count.size());
  const RunningArgument running_mean(mean_object, "running_mean", channels),
      running_var(var_object, "running_var", channels);
  if (!running_mean.given()) FailType("running_mean", "a NumPy array", "None");
  if (!running_var.given()) FailType("running_var", "a NumPy array", "None");
  const RunningStats running{running_mean.vector(), running_var.vector(), MomentumOfNew(momentum, momentum_of),
                             Flag(unbiased, "unbiased")};
  RequireApart(running_mean.array(), "running_mean", {{&running_var.array(), "running_var"}});
  for (std::size_t c = 0; c < channels; ++c) running.Update(c, count.data()[c], mean.data()[c], m2.data()[c]);
}

}  // namespace

void RegisterStatistics(py::module_& m) {
  m.def("channel_stats", &Statistics);
  m.def("merge_stats", &Merge, py::arg("count").noconvert(), py::arg("mean").noconvert(), py::arg("m2").noconvert(),
        py::arg("other_count").noconvert(), py::arg("other_mean").noconvert(), py::arg("other_m2").noconvert(),
        py::pos_only());
  m.def("update_running_stats", &UpdateRunning);
}

}  // namespace batchnorm::bindings
