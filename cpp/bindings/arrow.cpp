// Memory that another package lends by the Arrow PyCapsule interface.
#include <cstring>

#include "bindings/arguments.h"
#include "bindings/register.h"

namespace batchnorm::bindings {
namespace {

// The structures of the Arrow C data interface, which are fixed.
struct ArrowSchema {
  const char *format, *name, *metadata;
  std::int64_t flags, n_children;
  ArrowSchema **children, *dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  std::int64_t length, null_count, offset, n_buffers, n_children;
  const void** buffers;
  ArrowArray **children, *dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};

template <class T>
const T& Lent(py::handle capsule, const char* name) {
  const auto* lent = static_cast<const T*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!lent) throw py::error_already_set();
  if (!lent->release) FailValue(name, "one that nobody has taken", "one that was released");
  return *lent;
}

bool IsBytes(const ArrowSchema& schema) { return std::strcmp(schema.format, "C") == 0; }

// Bytes, or lists of four, as an array of shape (length, 1) or (length, 4) that nobody can write to. The capsule lives
// as long as the array, and what it lends as long as the capsule.
py::array LentBytes(py::handle schema_capsule, py::handle array_capsule) {
  const auto& schema = Lent<ArrowSchema>(schema_capsule, "arrow_schema");
  const auto& array = Lent<ArrowArray>(array_capsule, "arrow_array");
  const bool fours = std::strcmp(schema.format, "+w:4") == 0 && schema.n_children == 1 && IsBytes(*schema.children[0]);
  if (!fours && !IsBytes(schema)) FailType("arrow_schema", "uint8 or lists of 4 uint8", schema.format);
  const ArrowArray& values = fours ? *array.children[0] : array;
  const py::ssize_t each = fours ? 4 : 1;
  const auto start = array.offset * each + (fours ? values.offset : 0);
  if (array.null_count != 0 || values.null_count != 0) FailValue("arrow_array", "no nulls", "some");
  const auto* bytes = static_cast<const std::uint8_t*>(values.buffers[1]) + start;
  const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(array.length), each};
  return ReadOnly(py::array_t<std::uint8_t>(shape, bytes, array_capsule));
}

}  // namespace

void RegisterArrow(py::module_& m) { m.def("lent_bytes", &LentBytes); }

}  // namespace batchnorm::bindings
