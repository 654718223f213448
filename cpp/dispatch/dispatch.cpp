#include "dispatch/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "dispatch/cpu.h"

namespace batchnorm {

#if defined(BATCHNORM_HAVE_BASELINE)
namespace baseline {
extern const KernelTable kTable;
}
#endif
#if defined(BATCHNORM_HAVE_AVX2)
namespace avx2 {
extern const KernelTable kTable;
}
#endif
#if defined(BATCHNORM_HAVE_AVX512)
namespace avx512 {
extern const KernelTable kTable;
}
#endif
#if defined(BATCHNORM_HAVE_NEON)
namespace neon {
extern const KernelTable kTable;
}
#endif

namespace {

struct Candidate {
  const KernelTable* table;
  bool usable;
};

// Slowest first; the last usable one is the default.
std::vector<Candidate> Candidates() {
  [[maybe_unused]] const CpuFeatures cpu = DetectCpu();
  return {
#if defined(BATCHNORM_HAVE_BASELINE)
      {&baseline::kTable, true},
#endif
#if defined(BATCHNORM_HAVE_AVX2)
      {&avx2::kTable, cpu.avx2},
#endif
#if defined(BATCHNORM_HAVE_AVX512)
      {&avx512::kTable, cpu.avx512},
#endif
#if defined(BATCHNORM_HAVE_NEON)
      {&neon::kTable, true},
#endif
  };
}

const KernelTable* Find(const std::string& name) {
  for (const Candidate& c : Candidates()) {
    if (c.usable && name == c.table->name) return c.table;
  }
  return nullptr;
}

const KernelTable& Require(const std::string& name, const char* what) {
  if (const KernelTable* table = Find(name)) return *table;
  std::string usable;
  for (const std::string& n : UsableIsas()) usable += (usable.empty() ? "" : ", ") + n;
  const std::vector<std::string> built = BuiltIsas();
  bool known = false;
  for (const std::string& n : built) known = known || n == name;
  throw std::invalid_argument(std::string(what) + ": expected one of " + usable + ", got '" + name + "'" +
                              (known ? " (this CPU doesn't have it)" : ""));
}

// Chosen at the first call. An error is thrown at every call, because a static whose initialiser throws stays unset.
const KernelTable& Default() {
  static const KernelTable& table = []() -> const KernelTable& {
    const std::vector<std::string> usable = UsableIsas();
    if (usable.empty()) throw std::runtime_error("this CPU has none of the instruction sets that were built");
    const char* forced = std::getenv("BATCHNORM_ISA");
    return Require(forced && *forced ? std::string(forced) : usable.back(), "BATCHNORM_ISA");
  }();
  return table;
}

std::atomic<const KernelTable*> forced_table{nullptr};

}  // namespace

std::vector<std::string> BuiltIsas() {
  std::vector<std::string> names;
  for (const Candidate& c : Candidates()) names.emplace_back(c.table->name);
  return names;
}

std::vector<std::string> UsableIsas() {
  std::vector<std::string> names;
  for (const Candidate& c : Candidates()) {
    if (c.usable) names.emplace_back(c.table->name);
  }
  return names;
}

const KernelTable& ActiveKernels() {
  const KernelTable* forced = forced_table.load(std::memory_order_acquire);
  return forced ? *forced : Default();
}

void SetIsa(const std::string& name) {
  forced_table.store(name.empty() ? nullptr : &Require(name, "name"), std::memory_order_release);
}

}  // namespace batchnorm
