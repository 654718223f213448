#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

#include "bindings/arguments.h"
#include "bindings/register.h"

namespace batchnorm::bindings {
namespace {

using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;

// Arrays of one length, which nobody can write to: count, mean, m2, what the weights of the values add up to, and the
// exact sums of integers and of their squares.
using Stats =
    std::tuple<Counts, Doubles, Doubles, std::optional<Doubles>, std::optional<Counts>, std::optional<Counts>>;

// Null for what isn't there.
std::array<const py::array*, std::tuple_size_v<Stats>> ArraysOf(const Stats& stats) {
  const auto& [count, mean, m2, weights, total, squares] = stats;
  return {&count, &mean, &m2, weights ? &*weights : nullptr, total ? &*total : nullptr, squares ? &*squares : nullptr};
}

Stats Frozen(Stats stats) {
  for (const py::array* array : ArraysOf(stats)) {
    if (array) ReadOnly(*array);
  }
  return stats;
}

// What Python made and checked is refused where it isn't as it should be.
template <class Arrays>
void RequireLength(py::ssize_t length, const Arrays& arrays) {
  for (const py::array* array : arrays) {
    if (array && (array->ndim() != 1 || array->size() != length)) {
      FailValue("stats", "arrays of shape (" + std::to_string(length) + ",)", ShapeOf(*array));
    }
  }
}

template <class T>
py::array_t<T, py::array::c_style> CopyOf(const py::array_t<T, py::array::c_style>& array) {
  return py::array_t<T, py::array::c_style>(array.size(), array.data());
}

// The mask tells the count alone where there are weights.
Stats Statistics(py::handle x_object, py::handle axis_object, py::handle num_threads, py::handle mask_object,
                 py::handle weights_object, py::handle flush_subnormals) {
  const py::array x = DataArray(x_object, "x", Accepted::kFloatsAndIntegers);
  const std::size_t axis = ChannelAxis(axis_object, x);
  const SharedArgument mask(mask_object, "mask", SharedArgument::Kind::kMask, x, axis);
  const SharedArgument weights(weights_object, "weights", SharedArgument::Kind::kWeights, x, axis);
  const Workers workers = WorkersOf(num_threads, flush_subnormals);
  const std::size_t channels = ChannelsOf(x, axis);
  const auto length = static_cast<py::ssize_t>(channels);
  const ArrayView view = ViewOf(x);
  Counts count(length);
  Doubles mean(length), m2(length);
  std::optional<Doubles> measures;
  std::optional<Counts> total, squares;
  IntegerSums sums{};
  if (weights.view()) {
    measures.emplace(length);
  } else if (IsInteger(view.dtype)) {
    sums = {total.emplace(length).mutable_data(), squares.emplace(length).mutable_data()};
  }
  std::int64_t* counts = count.mutable_data();
  double *means = mean.mutable_data(), *m2s = m2.mutable_data(), measure = 0;
  bool exact = false;
  {
    const py::gil_scoped_release release;
    const std::int64_t number = CountOf(view, axis, mask.view(), workers);
    std::fill_n(counts, channels, number);
    measure = weights.view() ? SumOfWeights(view, axis, *weights.view()) : static_cast<double>(number);
    exact = ChannelStatistics(view, axis, weights.view() ? weights.view() : mask.view(), measure, workers, means, m2s,
                              sums) &&
            RefineBySums(channels, counts, sums, means, m2s);
  }
  if (measures) std::fill_n(measures->mutable_data(), channels, measure);
  return Frozen({count, mean, m2, measures, exact ? total : std::nullopt, exact ? squares : std::nullopt});
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

// Weights on both sides, or on none. Sums are kept where both sides have them and those of all can be.
Stats Merge(const Stats& own, const Stats& other) {
  const auto& [own_count, own_mean, own_m2, own_weights, own_total, own_squares] = own;
  const auto& [other_count, other_mean, other_m2, other_weights, other_total, other_squares] = other;
  RequireLength(own_count.size(), ArraysOf(own));
  RequireLength(own_count.size(), ArraysOf(other));
  if (own_weights.has_value() != other_weights.has_value()) FailValue("stats", "weights on both sides", "on one");
  const auto channels = static_cast<std::size_t>(own_count.size());
  Counts count = CopyOf(own_count);
  Doubles mean = CopyOf(own_mean), m2 = CopyOf(own_m2);
  std::optional<Doubles> weights;
  if (own_weights) weights = CopyOf(*own_weights);
  MergeStats(channels, count.mutable_data(), weights ? weights->mutable_data() : nullptr, mean.mutable_data(),
             m2.mutable_data(), other_count.data(), weights ? other_weights->data() : nullptr, other_mean.data(),
             other_m2.data());
  std::optional<Counts> total, squares;
  if (own_total && own_squares && other_total && other_squares) {
    total = CopyOf(*own_total);
    squares = CopyOf(*own_squares);
    const IntegerSums sums = {total->mutable_data(), squares->mutable_data()};
    sums.Add(channels, other_total->data(), other_squares->data());
    if (!RefineBySums(channels, count.data(), sums, mean.mutable_data(), m2.mutable_data())) {
      total = squares = std::nullopt;
    }
  }
  return Frozen({count, mean, m2, weights, total, squares});
}

py::tuple OfSums(const Counts& count, const Counts& total, const Counts& squares) {
  RequireLength(count.size(), std::array<const py::array*, 3>{&count, &total, &squares});
  Doubles mean(count.size()), m2(count.size());
  MomentsOfSums(static_cast<std::size_t>(count.size()), count.data(), total.data(), squares.data(), mean.mutable_data(),
                m2.mutable_data());
  return py::make_tuple(mean, m2);
}

// `weights` are what the values weigh together, or their number.
void UpdateRunning(py::handle mean_object, py::handle var_object, const Doubles& weights, const Doubles& mean,
                   const Doubles& m2, py::handle momentum, py::handle momentum_of, py::handle unbiased) {
  RequireLength(mean.size(), std::array<const py::array*, 3>{&weights, &mean, &m2});
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
  m.def("merge_stats", &Merge, py::arg("own").noconvert(), py::arg("other").noconvert(), py::pos_only());
  m.def("moments_of_sums", &OfSums, py::arg("count").noconvert(), py::arg("total").noconvert(),
        py::arg("squares").noconvert(), py::pos_only());
  m.def("update_running_stats", &UpdateRunning);
}

}  // namespace batchnorm::bindings
