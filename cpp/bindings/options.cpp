#include "bindings/options.h"

#include <cmath>
#include <limits>

#include "core/parallel.h"

namespace batchnorm::bindings {
namespace {

bool IsBool(py::handle object) {
  return PyBool_Check(object.ptr()) || TypeOf(object) == "numpy.bool_" || TypeOf(object) == "numpy.bool";
}

// After a conversion that failed: what isn't about the object, an interrupt or no memory, goes on.
void ClearConversionError() {
  if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
    throw py::error_already_set();
  }
  PyErr_Clear();
}

// An int, or what stands for one; clipped where it doesn't fit.
py::ssize_t Integer(py::handle object, const char* name, const char* expected) {
  if (!PyIndex_Check(object.ptr()) || IsBool(object) || py::isinstance<py::array>(object))
    FailType(name, expected, TypeOf(object));
  const py::ssize_t value = PyNumber_AsSsize_t(object.ptr(), nullptr);
  if (value == -1 && PyErr_Occurred()) {
    ClearConversionError();
    FailType(name, expected, TypeOf(object));
  }
  return value;
}

}  // namespace

void FailType(const std::string& name, const std::string& expected, const std::string& got) {
  throw py::type_error(name + ": expected " + expected + ", got " + got);
}

void FailValue(const std::string& name, const std::string& expected, const std::string& got) {
  throw py::value_error(name + ": expected " + expected + ", got " + got);
}

std::string TypeOf(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

std::string Repr(py::handle object) { return py::repr(object).cast<std::string>(); }

std::string InChannel(double value, std::size_t channel) {
  return Repr(py::float_(value)) + " in channel " + std::to_string(channel);
}

// What float() takes, except strings, bools, arrays and complex numbers. An int beyond every float is infinite.
double Real(py::handle object, const char* name) {
  PyObject* o = object.ptr();
  if (PyFloat_CheckExact(o)) return PyFloat_AS_DOUBLE(o);
  const bool complex = PyComplex_Check(o) || TypeOf(object).rfind("numpy.c", 0) == 0;
  const bool number =
      PyLong_Check(o) || PyFloat_Check(o) || (PyNumber_Check(o) && !complex && !py::isinstance<py::array>(object));
  if (!number || IsBool(object)) FailType(name, "a number", TypeOf(object));
  const double value = PyFloat_AsDouble(o);
  if (value == -1 && PyErr_Occurred()) {
    const bool too_large = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
    ClearConversionError();
    if (!too_large) FailType(name, "a number", TypeOf(object));
    return std::numeric_limits<double>::infinity();
  }
  return value;
}

py::ssize_t Axis(py::handle axis) { return Integer(axis, "axis", "an int"); }

double Eps(py::handle eps) {
  const double value = Real(eps, "eps");
  if (!(value >= 0) || std::isinf(value)) FailValue("eps", "a finite number >= 0", Repr(eps));
  return value;
}

double Momentum(py::handle momentum) {
  const double value = Real(momentum, "momentum");
  if (!(0 <= value && value <= 1)) FailValue("momentum", "a number in 0 .. 1", Repr(momentum));
  return value;
}

double MomentumOfNew(py::handle momentum, py::handle momentum_of) {
  const double value = Momentum(momentum);
  return Choice(momentum_of, "momentum_of", {"new", "old"}) == 0 ? value : 1 - value;
}

std::optional<std::pair<double, double>> RenormBounds(py::handle renorm) {
  if (renorm.is_none()) return std::nullopt;
  if (!py::isinstance<py::tuple>(renorm) || py::len(renorm) != 2) {
    FailType("renorm", "None or (r_max, d_max)", Repr(renorm));
  }
  const double r_max = Real(renorm[py::int_(0)], "renorm: r_max"), d_max = Real(renorm[py::int_(1)], "renorm: d_max");
  if (!(r_max >= 1)) FailValue("renorm: r_max", "a number >= 1", Repr(py::float_(r_max)));
  if (!(d_max >= 0)) FailValue("renorm: d_max", "a number >= 0", Repr(py::float_(d_max)));
  return std::pair(r_max, d_max);
}

bool Flag(py::handle object, const char* name) {
  if (PyBool_Check(object.ptr())) return object.ptr() == Py_True;
  if (IsBool(object)) return PyObject_IsTrue(object.ptr()) == 1;
  FailType(name, "a bool", TypeOf(object));
}

std::size_t Choice(py::handle object, const char* name, const std::vector<const char*>& choices) {
  const bool string = PyUnicode_Check(object.ptr());
  for (std::size_t i = 0; string && i < choices.size(); ++i) {
    if (PyUnicode_CompareWithASCIIString(object.ptr(), choices[i]) == 0) return i;
  }
  std::string expected;
  for (const char* choice : choices) expected += (expected.empty() ? "'" : " or '") + std::string(choice) + "'";
  if (!string) FailType(name, expected, TypeOf(object));
  FailValue(name, expected, Repr(object));
}

int Threads(py::handle num_threads) {
  if (num_threads.is_none()) return DefaultThreads();
  constexpr const char* kExpected = "a positive int or None";
  const py::ssize_t n = Integer(num_threads, "num_threads", kExpected);
  if (n < 1) FailValue("num_threads", kExpected, Repr(num_threads));
  if (n > std::numeric_limits<int>::max()) FailValue("num_threads", "at most 2**31 - 1 threads", Repr(num_threads));
  return static_cast<int>(n);
}

Workers WorkersOf(py::handle num_threads, py::handle flush_subnormals) {
  return {Threads(num_threads), Flag(flush_subnormals, "flush_subnormals")};
}

std::size_t PositiveInt(py::handle object, const char* name) {
  constexpr const char* kExpected = "a positive int";
  const py::ssize_t n = Integer(object, name, kExpected);
  if (n < 1) FailValue(name, kExpected, Repr(object));
  return static_cast<std::size_t>(n);
}

}  // namespace batchnorm::bindings
