// Arguments from Python: checked, never converted, described in errors as `name: expected WHAT, got WHAT`.
// TypeError for what a thing is, ValueError for what it holds.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch_norm.h"

namespace batchnorm::bindings {

namespace py = pybind11;

[[noreturn]] void FailType(const std::string& name, const std::string& expected, const std::string& got);
[[noreturn]] void FailValue(const std::string& name, const std::string& expected, const std::string& got);

std::string ShapeOf(const py::array& array);  // "(2, 3)"
std::string TypeOf(py::handle object);

// An array that a call reads: at least 2 dimensions, float32 or float64. What isn't an array goes through np.asarray.
py::array DataArray(py::handle object, const char* name);
// With the GIL held: views are made before a call releases it.
ArrayView ViewOf(const py::array& array);

// The element type of an array that passed its checks. The one place where NumPy's types become ours.
inline DType DTypeOf(const py::dtype& dtype) {
  return dtype.num() == py::detail::npy_api::NPY_FLOAT_ ? DType::kFloat32 : DType::kFloat64;
}

// `array` has the shape and type of `x`.
void RequireLike(const py::array& array, const char* name, const py::array& x, const char* x_name);

py::ssize_t Axis(py::handle axis);
// The channel axis counted from 0; `given` takes it as it was given.
std::size_t ChannelAxis(py::handle axis, const py::array& x, py::ssize_t* given = nullptr);
std::size_t ChannelsOf(const py::array& x, std::size_t axis);

// A per-channel vector that a call reads, or an absent one for None.
class VectorArgument {
 public:
  VectorArgument(py::handle object, const char* name, std::size_t channels);
  VectorArgument(const VectorArgument&) = delete;

  bool given() const { return static_cast<bool>(vector_); }
  const ChannelVector& vector() const { return vector_; }
  const py::array& array() const { return array_; }

 protected:
  void Take(py::array array, const char* name, std::size_t channels);

  py::array array_ = py::reinterpret_steal<py::array>(py::handle());  // null where absent
  ChannelVector vector_;
};

// One that a call writes: an array as it is, writeable.
class RunningArgument : public VectorArgument {
 public:
  RunningArgument(py::handle object, const char* name, std::size_t channels);
};

// Statistics that are given: both there, no variance negative.
struct GivenStatistics {
  VectorArgument mean, var;

  GivenStatistics(py::handle mean_object, const char* mean_name, py::handle var_object, const char* var_name,
                  std::size_t channels);
};

double Eps(py::handle eps);
double Momentum(py::handle momentum);
double MomentumOfNew(py::handle momentum, py::handle momentum_of);  // the weight of the new value
bool Flag(py::handle object, const char* name);
// The index of the string in `choices`.
std::size_t Choice(py::handle object, const char* name, const std::vector<const char*>& choices);
int Threads(py::handle num_threads);

struct NamedArray {
  const py::array* array;
  const char* name;
};

// Whether two arrays show the same elements in the same places.
bool SameView(const py::array& a, const py::array& b);

// `out` shares no memory with any of `inputs`.
void RequireApart(const py::array& array, const char* name, const std::vector<NamedArray>& inputs);

// The output of a call: a fresh array in the memory order of `x`, or `out` after its checks. It may be `may_be` itself
// and overlaps none of `inputs`.
py::array Output(py::handle out, const py::array& x, const py::array& may_be, const std::vector<NamedArray>& inputs);

}  // namespace batchnorm::bindings
