// What the backward calls share.
#pragma once

#include "bindings/arguments.h"

namespace batchnorm::bindings {

// A fresh (channels,) vector for a parameter's gradient.
struct GradientVector {
  py::array array;
  ChannelVector vector;

  GradientVector(const py::dtype& dtype, std::size_t channels)
      : array(dtype, std::vector<py::ssize_t>{static_cast<py::ssize_t>(channels)}),
        vector{array.mutable_data(), DTypeOf(dtype), array.strides(0)} {}
};

// Of a parameter's gradient: as was saved (`saved`, or None), as the parameter's, else as x implies.
inline py::dtype ParameterDType(py::handle saved, const VectorArgument& parameter, const py::array& x) {
  if (!saved.is_none()) return py::reinterpret_borrow<py::dtype>(saved);
  if (parameter.given()) return parameter.array().dtype();
  return DTypeOf(x.dtype()) == DType::kFloat64 ? py::dtype::of<double>() : py::dtype::of<float>();
}

// Statistics that a forward call saved: float64, contiguous, one per channel.
inline const double* SavedVector(const py::array& array, std::size_t channels) {
  if (array.ndim() != 1 || static_cast<std::size_t>(array.shape(0)) != channels) {
    FailValue("saved", "statistics of " + std::to_string(channels) + " channels", "shape " + ShapeOf(array));
  }
  if (array.dtype().num() != py::detail::npy_api::NPY_DOUBLE_ || !(array.flags() & py::array::c_style)) {
    FailType("saved", "contiguous float64 statistics", py::str(array.dtype()).cast<std::string>());
  }
  return static_cast<const double*>(array.data());
}

// `counts` is one int for all channels, or an int64 array of one per channel.
inline void RequireCount(py::handle counts, std::int64_t count, std::size_t channels) {
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

}  // namespace batchnorm::bindings
