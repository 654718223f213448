#include "bindings/arguments.h"
#include "bindings/register.h"

namespace batchnorm::bindings {
namespace {

// dy and x as a backward call takes them, and dx.
struct GradientArrays {
  py::array dy, x, dx;
  std::size_t axis, channels;

  GradientArrays(py::handle dy_object, py::handle x_object, py::handle axis_object)
      : dy(DataArray(dy_object, "dy")), x(DataArray(x_object, "x")) {
    RequireLike(dy, "dy", x, "x");
    axis = ChannelAxis(axis_object, x);
    channels = ChannelsOf(x, axis);
  }

  // dx, which may be dy and overlaps nothing else.
  void MakeOutput(py::handle out, std::vector<NamedArray> parameters) {
    parameters.insert(parameters.begin(), {{&dy, "dy"}, {&x, "x"}});
    dx = Output(out, x, dy, parameters);
  }
};

// A fresh (channels,) vector for a parameter's gradient.
struct GradientVector {
  py::array array;
  ChannelVector vector;

  GradientVector(const py::dtype& dtype, std::size_t channels)
      : array(dtype, std::vector<py::ssize_t>{static_cast<py::ssize_t>(channels)}),
        vector{array.mutable_data(), DTypeOf(dtype), array.strides(0)} {}
};

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

py::tuple Train(py::handle dy, py::handle x, const py::array& mean, const py::array& rstd, py::handle count,
                py::handle weight_object, py::handle weight_dtype, py::handle axis, py::handle out,
                py::handle num_threads) {
  GradientArrays arrays(dy, x, axis);
  const double* means = SavedVector(mean, arrays.channels);
  const double* rstds = SavedVector(rstd, arrays.channels);
  RequireCount(count, CountOf(ViewOf(arrays.x), arrays.axis), arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels);
  arrays.MakeOutput(out, {{&mean, "saved"}, {&rstd, "saved"}, {&weight.array(), "weight"}});
  const int threads = Threads(num_threads);
  const py::dtype dtype = !weight_dtype.is_none() ? py::reinterpret_borrow<py::dtype>(weight_dtype)
                          : weight.given()        ? weight.array().dtype()
                                                  : arrays.x.dtype();
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), x_view = ViewOf(arrays.x), dx_view = ViewOf(arrays.dx);
  {
    const py::gil_scoped_release release;
    TrainBackward(dy_view, x_view, dx_view, arrays.axis, means, rstds, weight.vector(), threads,
                  {dweight.vector, dbias.vector, {}, {}});
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array);
}

py::tuple Inference(py::handle dy, py::handle x, py::handle mean_object, py::handle var_object,
                    py::handle weight_object, py::handle bias_object, py::handle eps_object, py::handle axis,
                    py::handle out, py::handle num_threads) {
  GradientArrays arrays(dy, x, axis);
  const GivenStatistics given(mean_object, "running_mean", var_object, "running_var", arrays.channels);
  const VectorArgument weight(weight_object, "weight", arrays.channels), bias(bias_object, "bias", arrays.channels);
  const double eps = Eps(eps_object);
  arrays.MakeOutput(out, {{&given.mean.array(), "running_mean"},
                          {&given.var.array(), "running_var"},
                          {&weight.array(), "weight"},
                          {&bias.array(), "bias"}});
  const int threads = Threads(num_threads);
  const py::dtype dtype = weight.given() ? weight.array().dtype() : arrays.x.dtype();
  const GradientVector dweight(dtype, arrays.channels), dbias(dtype, arrays.channels);
  const GradientVector dmean(given.mean.array().dtype(), arrays.channels),
      dvar(given.var.array().dtype(), arrays.channels);
  const ArrayView dy_view = ViewOf(arrays.dy), x_view = ViewOf(arrays.x), dx_view = ViewOf(arrays.dx);
  {
    const py::gil_scoped_release release;
    InferenceBackward(dy_view, x_view, dx_view, arrays.axis, given.mean.vector(), given.var.vector(), weight.vector(),
                      eps, threads, {dweight.vector, dbias.vector, dmean.vector, dvar.vector});
  }
  return py::make_tuple(arrays.dx, dweight.array, dbias.array, dmean.array, dvar.array);
}

}  // namespace

void RegisterBackward(py::module_& m) {
  m.def("batch_norm_backward", &Train);
  m.def("batch_norm_inference_backward", &Inference);
}

}  // namespace batchnorm::bindings
