#include <pybind11/stl.h>

#include <optional>

#include "bindings/arguments.h"
#include "bindings/output_memory.h"
#include "bindings/register.h"
#include "core/move.h"
#include "core/parallel.h"
#include "core/plan.h"
#include "core/view.h"
#include "dispatch/cpu.h"
#include "dispatch/dispatch.h"

namespace batchnorm::bindings {
namespace {

std::string Compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " + std::to_string(_MSC_VER);
#else
  return "unknown";
#endif
}

py::dict Config() {
  std::string used;
  try {
    used = ActiveKernels().name;
  } catch (const std::exception& error) {
    used = error.what();
  }
  py::dict config;
  config["version"] = BATCHNORM_VERSION;
  config["compiler"] = Compiler();
  config["isas_built"] = BuiltIsas();
  config["isas_found"] = UsableIsas();
  config["isa"] = used;
  config["openmp"] = ParallelRuntime().empty() ? py::object(py::none()) : py::str(ParallelRuntime());
  config["threads"] = DefaultThreads();
  config["keeps_memory"] = KeepsMemory();
  config["cache_bytes"] = LastLevelCacheBytes();
  return config;
}

// A dense array as bytes to move.
py::array Dense(py::handle object, const char* name) {
  py::array array = DataArray(object, name);
  const ArrayView view = ViewOf(array);
  std::size_t reach = ItemSize(view.dtype);
  const std::vector<std::size_t> order = MemoryOrder(view);
  for (std::size_t i = order.size(); i-- > 0;) {
    if (view.extents[order[i]] == 1) continue;
    if (view.strides[order[i]] != static_cast<std::ptrdiff_t>(reach))
      FailValue(name, "a dense array", "strides " + Repr(array.attr("strides")));
    reach *= static_cast<std::size_t>(view.extents[order[i]]);
  }
  return array;
}

double Move(py::handle kind_object, py::handle stream, py::handle a_object, py::handle b_object, py::handle out_object,
            py::handle num_threads) {
  const std::vector<const char*> kinds = {"read1", "copy", "read2", "read2write1"};
  const auto kind = static_cast<MoveKind>(Choice(kind_object, "kind", kinds));
  const StoreKind store = Flag(stream, "stream") ? StoreKind::kStream : StoreKind::kPlain;
  const bool needs_b = kind == MoveKind::kRead2 || kind == MoveKind::kRead2Write1;
  const bool needs_out = kind == MoveKind::kCopy || kind == MoveKind::kRead2Write1;
  const py::array a = Dense(a_object, "a");
  const py::array b = needs_b ? Dense(b_object, "b") : a, out = needs_out ? Dense(out_object, "out") : a;
  if (b.nbytes() != a.nbytes()) FailValue("b", std::to_string(a.nbytes()) + " bytes", std::to_string(b.nbytes()));
  if (out.nbytes() != a.nbytes()) FailValue("out", std::to_string(a.nbytes()) + " bytes", std::to_string(out.nbytes()));
  if (needs_out) {
    if (!out.writeable()) FailValue("out", "a writeable array", "a read-only one");
    RequireApart(out, "out", {{&a, "a"}});
    if (needs_b) RequireApart(out, "out", {{&b, "b"}});
  }
  const int threads = Threads(num_threads);
  const void *from = a.data(), *and_from = b.data();
  void* to = const_cast<void*>(out.data());
  const auto bytes = static_cast<std::size_t>(a.nbytes());
  const py::gil_scoped_release release;
  return MoveBytes(kind, store, from, and_from, to, bytes, threads);
}

void SetNumThreads(py::handle n) { SetThreads(n.is_none() ? 0 : Threads(n)); }

void CheckNumThreads(py::handle n) {
  if (n.is_none()) FailType("num_threads", "a positive int", "None");
  Threads(n);
}

}  // namespace

void RegisterSystem(py::module_& m) {
  m.def("set_num_threads", &SetNumThreads);
  m.def("get_num_threads", &Threads);
  m.def("check_num_threads", &CheckNumThreads);
  m.def("check_eps", &Eps);
  m.def("check_momentum", [](py::handle momentum) { return Momentum(momentum); });
  m.def("check_renorm", &RenormBounds);
  m.def("check_axis_int", &Axis);
  m.def("check_axis", &AxisOfShape);
  m.def("check_flag", [](py::handle value, const char* name) { return Flag(value, name); });
  m.def("check_choice", [](py::handle value, const char* name, const std::vector<std::string>& choices) {
    std::vector<const char*> names;
    for (const std::string& choice : choices) names.push_back(choice.c_str());
    return choices[Choice(value, name, names)];
  });
  m.def("check_activation",
        [](py::handle activation, std::size_t channels) { return ActivationArgument(activation, channels).Saved(); });
  m.def("config", &Config);
  m.def("set_kept_bytes", &SetKeptMost);
  m.def("get_kept_bytes", &KeptBytes);
  m.def("_set_isa", [](const std::optional<std::string>& name) { SetIsa(name.value_or("")); });
  m.def("_isas", &UsableIsas);
  m.def("_set_stream_above", &SetStreamAbove);
  m.def("_set_group_bytes", &SetGroupBytes);
  m.def("move_bytes", &Move);
}

}  // namespace batchnorm::bindings
