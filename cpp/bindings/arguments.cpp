#include "bindings/arguments.h"
#include "bindings/output_memory.h"

#include <pybind11/stl.h>

#include <cmath>
#include <cstring>

#include "core/move.h"
#include "core/view.h"

namespace batchnorm::bindings {
namespace {

bool IsArray(py::handle object) { return py::isinstance<py::array>(object); }

void RefuseMasked(py::handle object, const char* name) {
  if (Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_) return;
  if (py::isinstance(object, py::module_::import("numpy.ma").attr("MaskedArray"))) {
    FailType(name, "an array without a mask", "MaskedArray (its mask would be lost; use .filled(value) or .data)");
  }
}

// np.asarray for what isn't an array: a list, a tensor of another library.
py::array AsArray(py::handle object, const char* name) {
  if (object.is_none()) FailType(name, "an array", "None");
  if (IsArray(object)) {
    RefuseMasked(object, name);
    return py::reinterpret_borrow<py::array>(object);
  }
  try {
    return py::module_::import("numpy").attr("asarray")(object).cast<py::array>();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
    FailType(name, "an array", TypeOf(object) + " (" + py::str(error.value()).cast<std::string>() + ")");
  }
}

std::string NameOf(const py::dtype& dtype) { return py::str(dtype).cast<std::string>(); }

const char* NamesOf(Accepted accepted) {
  switch (accepted) {
    case Accepted::kParameters:
      return "float32 or float64";
    case Accepted::kFloats:
      return "float16, bfloat16 (of ml_dtypes), float32 or float64";
    case Accepted::kFloatsAndIntegers:
      break;
  }
  return "float16, bfloat16 (of ml_dtypes), float32, float64, uint8, int8, uint16 or int16";
}

void RequireDType(const py::array& array, const char* name, Accepted accepted) {
  const py::dtype dtype = array.dtype();
  const std::optional<DType> found = FindDType(dtype);
  const bool parameter = found == DType::kFloat32 || found == DType::kFloat64;
  if (!found || (accepted == Accepted::kParameters && !parameter) ||
      (accepted == Accepted::kFloats && IsInteger(*found))) {
    FailType(name, NamesOf(accepted), NameOf(dtype));
  }
  if (dtype.byteorder() != '=' && !dtype.attr("isnative").cast<bool>()) {
    FailType(name, "native byte order", py::str(dtype).cast<std::string>() + " (use .astype(dtype.newbyteorder('=')))");
  }
}

// The lowest address of an array's elements, and one past the highest.
std::pair<std::uintptr_t, std::uintptr_t> Bounds(const py::array& a) {
  std::uintptr_t low = reinterpret_cast<std::uintptr_t>(a.data()), high = low;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    const py::ssize_t reach = (a.shape(i) - 1) * a.strides(i);
    (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
  }
  return {low, high + static_cast<std::uintptr_t>(a.itemsize())};
}

bool Overlap(const py::array& a, const py::array& b) {
  if (!a || !b || a.size() == 0 || b.size() == 0) return false;
  const auto [a_low, a_high] = Bounds(a);
  const auto [b_low, b_high] = Bounds(b);
  if (a_high <= b_low || b_high <= a_low) return false;
  constexpr int kMostWork = 100000;  // deciding it exactly may take exponential time
  try {
    return py::module_::import("numpy").attr("shares_memory")(a, b, py::arg("max_work") = kMostWork).cast<bool>();
  } catch (py::error_already_set&) {
    return true;
  }
}

// Strides of a dense array with x's shape and memory order.
std::vector<py::ssize_t> DenseStrides(const py::array& x, py::ssize_t item, const std::vector<std::size_t>& order) {
  std::vector<py::ssize_t> strides(order.size());
  py::ssize_t stride = item;
  for (std::size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = stride;
    stride *= std::max<py::ssize_t>(1, x.shape(static_cast<py::ssize_t>(order[i])));
  }
  return strides;
}

// Positive strides, in x's order, that give every element a place of its own.
bool HasOrder(const py::array& out, const std::vector<std::size_t>& order) {
  py::ssize_t reach = out.itemsize();
  for (std::size_t i = order.size(); i-- > 0;) {
    const py::ssize_t axis = static_cast<py::ssize_t>(order[i]);
    if (out.shape(axis) == 1) continue;
    if (out.strides(axis) < reach) return false;
    reach = out.shape(axis) * out.strides(axis);
  }
  return true;
}

// Counted from 0. shape() tells the shape, as errors show it.
template <class Shape>
std::size_t AxisOf(py::handle object, py::ssize_t axis, py::ssize_t ndim, Shape shape) {
  if (axis < -ndim || axis >= ndim) {
    FailValue("axis", std::to_string(-ndim) + " .. " + std::to_string(ndim - 1) + " for shape " + shape(),
              Repr(object));
  }
  return static_cast<std::size_t>(axis < 0 ? axis + ndim : axis);
}

std::string StridesOf(const std::vector<py::ssize_t>& strides) {
  py::tuple tuple(strides.size());
  for (std::size_t i = 0; i < strides.size(); ++i) tuple[i] = py::int_(strides[i]);
  return Repr(tuple);
}

}  // namespace

std::string ShapeOf(const py::array& array) { return Repr(array.attr("shape")); }

py::array ReadOnly(py::array array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

std::optional<DType> FindDType(const py::dtype& dtype) {
  using Api = py::detail::npy_api;
  constexpr int kHalf = 23, kFirstOfUsers = 256;  // NPY_HALF, NPY_USERDEF: pybind11 has no names for them
  switch (const int num = dtype.num()) {
    case Api::NPY_FLOAT_:
      return DType::kFloat32;
    case Api::NPY_DOUBLE_:
      return DType::kFloat64;
    case kHalf:
      return DType::kFloat16;
    case Api::NPY_UBYTE_:
      return DType::kUInt8;
    case Api::NPY_BYTE_:
      return DType::kInt8;
    case Api::NPY_USHORT_:
      return DType::kUInt16;
    case Api::NPY_SHORT_:
      return DType::kInt16;
    default:
      if (num < kFirstOfUsers) return std::nullopt;
  }
  // ml_dtypes is not imported: whoever made the array has done so.
  const py::object type = dtype.attr("type");
  const py::object name = type.attr("__name__"), module = type.attr("__module__");
  const bool bfloat16 = name.equal(py::str("bfloat16")) && module.equal(py::str("ml_dtypes")) && dtype.itemsize() == 2;
  return bfloat16 ? std::optional(DType::kBFloat16) : std::nullopt;
}

py::array DataArray(py::handle object, const char* name, Accepted accepted) {
  py::array array = AsArray(object, name);
  RequireDType(array, name, accepted);
  if (array.ndim() < 2) FailValue(name, "at least 2 dimensions", "shape " + ShapeOf(array));
  return array;
}

ArrayView ViewOf(const py::array& array) {
  ArrayView view;
  view.data = const_cast<void*>(array.data());
  view.dtype = DTypeOf(array.dtype());
  view.ndim = static_cast<std::size_t>(array.ndim());
  view.extents = array.shape();
  view.strides = array.strides();
  return view;
}

void RequireLike(const py::array& array, const char* name, const NamedArray& like) {
  const py::array& x = *like.array;
  const bool wide = DTypeOf(x.dtype()) == DType::kFloat64;
  if ((DTypeOf(array.dtype()) == DType::kFloat64) != wide) {
    FailType(name,
             std::string(wide ? "float64" : "float16, bfloat16 (of ml_dtypes) or float32") + ", which goes with " +
                 like.name + "'s " + NameOf(x.dtype()),
             NameOf(array.dtype()));
  }
  if (array.ndim() != x.ndim() || !std::equal(array.shape(), array.shape() + array.ndim(), x.shape())) {
    FailValue(name, std::string(like.name) + "'s shape " + ShapeOf(x), ShapeOf(array));
  }
}

std::size_t ChannelAxis(py::handle object, const py::array& x, py::ssize_t* given) {
  const py::ssize_t axis = Axis(object);
  if (given) *given = axis;
  return AxisOf(object, axis, x.ndim(), [&] { return ShapeOf(x); });
}

std::size_t AxisOfShape(py::handle axis, const py::tuple& shape) {
  return AxisOf(axis, Axis(axis), static_cast<py::ssize_t>(shape.size()), [&] { return Repr(shape); });
}

std::size_t ChannelsOf(const py::array& x, std::size_t axis) {
  return static_cast<std::size_t>(x.shape(static_cast<py::ssize_t>(axis)));
}

VectorArgument::VectorArgument(py::handle object, const char* name, std::size_t channels) {
  if (!object.is_none()) Take(AsArray(object, name), name, channels);
}

void VectorArgument::Take(py::array array, const char* name, std::size_t channels) {
  RequireDType(array, name, Accepted::kParameters);
  if (array.ndim() != 1 || array.shape(0) != static_cast<py::ssize_t>(channels)) {
    FailValue(name, "shape (" + std::to_string(channels) + ",)", ShapeOf(array));
  }
  vector_ = {const_cast<void*>(array.data()), DTypeOf(array.dtype()), array.strides(0)};
  array_ = std::move(array);
}

RunningArgument::RunningArgument(py::handle object, const char* name, std::size_t channels)
    : VectorArgument(py::none(), name, channels) {
  if (object.is_none()) return;
  if (!IsArray(object)) FailType(name, "a NumPy array, because it is updated in place", TypeOf(object));
  RefuseMasked(object, name);
  Take(py::reinterpret_borrow<py::array>(object), name, channels);
  if (!array_.writeable()) FailValue(name, "a writeable array", "a read-only one");
  if (channels > 1 && std::abs(vector_.stride) < array_.itemsize()) {
    FailValue(name, "a place of its own for every channel", "strides " + Repr(array_.attr("strides")));
  }
}

void RequireNoNegative(const VectorArgument& var, const char* name, std::size_t channels) {
  for (std::size_t c = 0; c < channels; ++c) {
    const double v = var.vector().Get(c);
    if (v < 0) FailValue(name, "no negative variance", InChannel(v, c));
  }
}

GivenStatistics::GivenStatistics(py::handle mean_object, const char* mean_name, py::handle var_object,
                                 const char* var_name, std::size_t channels)
    : mean(mean_object, mean_name, channels), var(var_object, var_name, channels) {
  if (!mean.given()) FailType(mean_name, "an array", "None");
  if (!var.given()) FailType(var_name, "an array", "None");
  RequireNoNegative(var, var_name, channels);
}

SharedArgument::SharedArgument(py::handle object, const char* name, Kind kind, const py::array& x, std::size_t axis) {
  if (object.is_none()) return;
  py::array array = AsArray(object, name);
  if (kind == Kind::kWeights) {
    RequireDType(array, name, Accepted::kParameters);
  } else if (array.dtype().num() != py::detail::npy_api::NPY_BOOL_) {
    FailType(name, "bool", NameOf(array.dtype()));
  }
  const py::ssize_t ndim = x.ndim(), missing = ndim - 1 - array.ndim();
  const auto without_channels = [&](py::ssize_t i) { return i < static_cast<py::ssize_t>(axis) ? i : i + 1; };
  bool fits = missing >= 0;
  strides_.assign(static_cast<std::size_t>(ndim), 0);
  for (py::ssize_t i = 0; fits && i < array.ndim(); ++i) {
    const py::ssize_t of_x = without_channels(i + missing);
    if (array.shape(i) == 1) continue;
    fits = array.shape(i) == x.shape(of_x);
    strides_[static_cast<std::size_t>(of_x)] = array.strides(i);
  }
  if (!fits) {
    py::list shape;
    for (py::ssize_t i = 0; i < ndim - 1; ++i) shape.append(x.shape(without_channels(i)));
    FailValue(name, "an array that broadcasts to x's shape without its channels, " + Repr(py::tuple(shape)),
              ShapeOf(array));
  }
  view_ = ViewOf(x);
  view_.data = const_cast<void*>(array.data());
  view_.dtype = kind == Kind::kMask ? DType::kBool : DTypeOf(array.dtype());
  view_.strides = strides_.data();
  array_ = std::move(array);
}

std::vector<std::int64_t> SharedArgument::Counts(const ArrayView& x, std::size_t axis, const BatchSlices& slices,
                                                 Workers workers) const {
  std::optional<py::gil_scoped_release> release;
  if (view()) release.emplace();  // else no value is looked at
  return CountsOf(x, axis, view(), slices, workers);
}

py::object SharedArgument::Saved(Workers workers) const {
  if (!array_) return py::none();
  if ((array_.flags() & py::array::c_style) == 0) return ReadOnly(array_.attr("copy")());
  py::array copy(array_.dtype(), py::array::ShapeContainer(array_.shape(), array_.shape() + array_.ndim()));
  const void* from = array_.data();
  void* to = copy.mutable_data();
  const auto bytes = static_cast<std::size_t>(array_.nbytes());
  {
    const py::gil_scoped_release release;
    CopyBytes(from, to, bytes, workers);
  }
  return ReadOnly(copy);
}

BesideArgument::BesideArgument(py::handle object, const char* name, const py::array& x) {
  if (object.is_none()) return;
  array_ = DataArray(object, name);
  RequireLike(array_, name, {&x, "x"});
  view_ = ViewOf(array_);
}

ActivationArgument::ActivationArgument(py::handle object, std::size_t channels) {
  constexpr const char* kExpected = "None, 'relu', ('leaky_relu', slope) or ('prelu', slopes)";
  if (object.is_none()) return;
  const bool pair = py::isinstance<py::tuple>(object) && py::len(object) == 2;
  const py::object name = pair ? py::object(object[py::int_(0)]) : py::reinterpret_borrow<py::object>(object);
  if (!py::isinstance<py::str>(name)) FailType("activation", kExpected, Repr(object));
  if (!pair && name.equal(py::str("relu"))) {
    name_ = "relu";
  } else if (pair && name.equal(py::str("leaky_relu"))) {
    name_ = "leaky_relu";
    constant_ = Real(object[py::int_(1)], "activation: slope");
    if (!(constant_ >= 0) || std::isinf(constant_)) {
      FailValue("activation: slope", "a finite number >= 0", Repr(object[py::int_(1)]));
    }
  } else if (pair && name.equal(py::str("prelu"))) {
    name_ = "prelu";
    const VectorArgument slopes(object[py::int_(1)], "activation: slopes", channels);
    if (!slopes.given()) FailType("activation: slopes", "an array", "None");
    for (std::size_t c = 0; c < channels; ++c) {
      const double slope = slopes.vector().Get(c);
      if (std::isinf(slope)) FailValue("activation: slopes", "no infinity", "one in channel " + std::to_string(c));
    }
    slopes_ = slopes.array();
    slope_ = slopes.vector();
    return;
  } else {
    FailValue("activation", kExpected, Repr(object));
  }
  slope_ = {&constant_, DType::kFloat64, 0};
}

py::object ActivationArgument::Saved() const {
  if (!name_) return py::none();
  if (slopes_) {
    return py::make_tuple(name_, ReadOnly(slopes_.attr("copy")()));
  }
  if (constant_ == 0 && std::string(name_) == "relu") return py::str(name_);
  return py::make_tuple(name_, constant_);
}

SignArray::SignArray(const py::array& like)
    : bytes_(py::array_t<std::uint8_t>(like.size() / 8 + 1)),
      strides_(DenseStrides(like, 1, MemoryOrder(ViewOf(like)))) {
  std::memset(bytes_.mutable_data(), 0, static_cast<std::size_t>(bytes_.size()));
  SetView(like);
}

SignArray::SignArray(const py::tuple& saved, const py::array& like)
    : bytes_(saved[0].cast<py::array>()), strides_(saved[1].cast<std::vector<py::ssize_t>>()) {
  py::ssize_t last = 0;
  for (py::ssize_t i = 0; i < like.ndim() && like.ndim() == static_cast<py::ssize_t>(strides_.size()); ++i) {
    last += (like.shape(i) - 1) * strides_[static_cast<std::size_t>(i)];
  }
  const bool fits = last + 1 == like.size() && last / 8 < bytes_.size();
  if (like.ndim() != static_cast<py::ssize_t>(strides_.size()) || (like.size() > 0 && !fits)) {
    FailValue("saved", "signs of an array of x's shape " + ShapeOf(like), "strides " + StridesOf(strides_));
  }
  SetView(like);
}

void SignArray::SetView(const py::array& like) {
  view_ = ViewOf(like);
  view_.data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(bytes_.data()) * 8);
  view_.dtype = DType::kSign;
  view_.strides = strides_.data();
}

py::object SignArray::Saved() const {
  if (!bytes_) return py::none();
  return py::make_tuple(ReadOnly(bytes_), py::tuple(py::cast(strides_)));
}

bool SameView(const py::array& a, const py::array& b) {
  if (a.data() != b.data() || a.ndim() != b.ndim() || a.itemsize() != b.itemsize()) return false;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) != b.shape(i) || (a.strides(i) != b.strides(i) && a.shape(i) != 1)) return false;
  }
  return true;
}

void RequireApart(const py::array& array, const char* name, const std::vector<NamedArray>& inputs) {
  for (const NamedArray& input : inputs) {
    if (Overlap(array, *input.array)) {
      FailValue(name, std::string("memory apart from ") + input.name,
                std::string("an array that overlaps ") + input.name);
    }
  }
}

py::array Output(py::handle out, const char* name, const NamedArray& like, const py::array& may_be,
                 const std::vector<NamedArray>& inputs) {
  const py::array& x = *like.array;
  const std::vector<std::size_t> order = MemoryOrder(ViewOf(x));
  if (out.is_none()) {
    const py::dtype dtype = IsInteger(DTypeOf(x.dtype())) ? py::dtype::of<float>() : x.dtype();
    const OutputMemory memory(static_cast<std::size_t>(x.size() * dtype.itemsize()));
    return py::array(dtype, std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()),
                     DenseStrides(x, dtype.itemsize(), order));
  }
  if (!IsArray(out)) FailType(name, "a NumPy array", TypeOf(out));
  RefuseMasked(out, name);
  py::array array = py::reinterpret_borrow<py::array>(out);
  RequireDType(array, name, Accepted::kFloats);
  RequireLike(array, name, like);
  if (!array.writeable()) FailValue(name, "a writeable array", "a read-only one");
  if (array.size() > 0 && !HasOrder(array, order)) {
    FailValue(name,
              std::string(like.name) + "'s memory order, such as strides " +
                  StridesOf(DenseStrides(x, array.itemsize(), order)),
              "strides " + Repr(array.attr("strides")));
  }
  for (const NamedArray& input : inputs) {
    if (input.array == &may_be && SameView(array, may_be)) continue;
    RequireApart(array, name, {input});
  }
  return array;
}

}  // namespace batchnorm::bindings
