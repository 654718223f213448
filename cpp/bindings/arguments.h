// Arrays from Python, and what is made of them: checked, never converted.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bindings/options.h"
#include "core/batch_norm.h"

namespace batchnorm::bindings {

std::string ShapeOf(const py::array& array);  // "(2, 3)"
py::array ReadOnly(py::array array);          // the very array, which nobody can write to any more

// Element types that an argument may have.
enum class Accepted { kParameters, kFloats, kFloatsAndIntegers };

// An array that a call reads: at least 2 dimensions. What isn't an array goes through np.asarray.
py::array DataArray(py::handle object, const char* name, Accepted accepted = Accepted::kFloats);
// With the GIL held: views are made before a call releases it.
ArrayView ViewOf(const py::array& array);

// Absent for one that isn't ours. The one place where NumPy's types become ours.
std::optional<DType> FindDType(const py::dtype& dtype);
// Of an array that passed its checks.
inline DType DTypeOf(const py::dtype& dtype) { return *FindDType(dtype); }

struct NamedArray {
  const py::array* array;
  const char* name;
};

// `array` has the shape of `like`, and an element type that goes with it: float64 with float64, any other floating type
// with the others and with integers.
void RequireLike(const py::array& array, const char* name, const NamedArray& like);

// An array of a call beside x, which may be absent.
class BesideArgument {
 public:
  BesideArgument(py::handle object, const char* name, const py::array& x);

  const ArrayView* view() const { return array_ ? &view_ : nullptr; }
  const py::array& array() const { return array_; }

 private:
  py::array array_ = py::reinterpret_steal<py::array>(py::handle());
  ArrayView view_;
};

// The channel axis counted from 0; `given` takes it as it was given.
std::size_t ChannelAxis(py::handle axis, const py::array& x, py::ssize_t* given = nullptr);
// An axis of what isn't there as an array.
std::size_t AxisOfShape(py::handle axis, const py::tuple& shape);
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

// An activation: None, "relu", ("leaky_relu", slope) or ("prelu", slopes).
class ActivationArgument {
 public:
  ActivationArgument(py::handle object, std::size_t channels);
  ActivationArgument(const ActivationArgument&) = delete;

  bool given() const { return static_cast<bool>(slope_); }
  const ChannelVector& slope() const { return slope_; }
  const py::array& slopes() const { return slopes_; }  // of "prelu"; null otherwise
  // What a forward saves: the same, with a copy of the slopes that nobody writes to.
  py::object Saved() const;

 private:
  const char* name_ = nullptr;
  double constant_ = 0;
  py::array slopes_ = py::reinterpret_steal<py::array>(py::handle());
  ChannelVector slope_;
};

// The signs of an array's values, a bit each, in its memory order (DType::kSign). As Python keeps them: the bytes, and
// the strides in bits.
class SignArray {
 public:
  SignArray() = default;
  explicit SignArray(const py::array& like);                 // fresh
  SignArray(const py::tuple& saved, const py::array& like);  // as Saved gave them

  const ArrayView* view() const { return bytes_ ? &view_ : nullptr; }
  py::object Saved() const;

 private:
  void SetView(const py::array& like);

  py::array bytes_ = py::reinterpret_steal<py::array>(py::handle());
  std::vector<py::ssize_t> strides_;
  ArrayView view_;
};

// An array that all channels share, or none for None: a mask (bool) or weights (float32 or float64), broadcast to the
// shape of x without its channel axis.
class SharedArgument {
 public:
  enum class Kind { kMask, kWeights };

  SharedArgument(py::handle object, const char* name, Kind kind, const py::array& x, std::size_t axis);
  SharedArgument(const SharedArgument&) = delete;

  const ArrayView* view() const { return array_ ? &view_ : nullptr; }
  const py::array& array() const { return array_; }
  // What a forward saves: a copy that nobody writes to.
  py::object Saved(Workers workers) const;
  // CountsOf, without the GIL.
  std::vector<std::int64_t> Counts(const ArrayView& x, std::size_t axis, const BatchSlices& slices,
                                   Workers workers) const;

 private:
  py::array array_ = py::reinterpret_steal<py::array>(py::handle());
  std::vector<py::ssize_t> strides_;
  ArrayView view_;
};

void RequireNoNegative(const VectorArgument& var, const char* name, std::size_t channels);

// Statistics that are given: both there, no variance negative.
struct GivenStatistics {
  VectorArgument mean, var;

  GivenStatistics(py::handle mean_object, const char* mean_name, py::handle var_object, const char* var_name,
                  std::size_t channels);
};

// Whether two arrays show the same elements in the same places.
bool SameView(const py::array& a, const py::array& b);

// `out` shares no memory with any of `inputs`.
void RequireApart(const py::array& array, const char* name, const std::vector<NamedArray>& inputs);

// The output of a call, named `name`: a fresh array in the memory order of `like`, of its type or float32 for integers;
// or `out` after its checks. It may be `may_be` itself and overlaps none of `inputs`.
py::array Output(py::handle out, const char* name, const NamedArray& like, const py::array& may_be,
                 const std::vector<NamedArray>& inputs);

}  // namespace batchnorm::bindings
