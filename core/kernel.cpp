#include <cstdlib>
#include <mutex>
#include <set>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/kernel.h>
#include <trinix/core/log.h>

namespace trinix {

namespace {

constexpr std::string_view kKernelNames[] = {"automatic", "flash", "fused", "reference"};

thread_local KernelChoice scoped_choice;
// Names are string literals with static storage, so pointers suffice.
thread_local std::vector<std::pair<std::string_view, const char*>> last_kernels;

std::mutex& lister_mutex() {
  static std::mutex mutex;
  return mutex;
}
std::vector<detail::KernelLister>& listers() {
  static std::vector<detail::KernelLister> list;
  return list;
}

KernelChoice choice_of_environment() {
  const char* text = std::getenv("TRINIX_KERNEL");
  return text == nullptr || *text == '\0' ? KernelChoice() : KernelChoice(parse_kernel(text), OnUnavailable::fallback);
}

}  // namespace

std::string_view name(Kernel kernel) { return kKernelNames[static_cast<int>(kernel)]; }

Kernel parse_kernel(std::string_view text) {
  for (int i = 0; i < 4; ++i) {
    if (kKernelNames[i] == text) return static_cast<Kernel>(i);
  }
  detail::fail<ConfigError>("kernel", "unknown kernel '{}': one of automatic, flash, fused, reference", text);
}

KernelScope::KernelScope(KernelChoice choice) : previous_(std::exchange(scoped_choice, choice)) {}
KernelScope::~KernelScope() { scoped_choice = previous_; }

KernelChoice resolve(KernelChoice argument) {
  if (argument.kernel != Kernel::automatic) return argument;
  if (scoped_choice.kernel != Kernel::automatic) return scoped_choice;
  static const KernelChoice environment = choice_of_environment();
  return environment;
}

std::vector<KernelInfo> list_kernels() {
  initialize();
  std::vector<KernelInfo> rows;
  const std::lock_guard lock(lister_mutex());
  for (const auto lister : listers()) lister(rows);
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.op < b.op; });
  return rows;
}

std::string last_kernel(std::string_view op) {
  for (const auto& [name, kernel] : last_kernels) {
    if (name == op) return kernel;
  }
  return "";
}

namespace detail {

void register_kernel_lister(KernelLister lister) {
  const std::lock_guard lock(lister_mutex());
  listers().push_back(lister);
}

void note_kernel(const char* op, const char* kernel) {
  for (auto& [name, last] : last_kernels) {
    // Op names are one literal each, so the pointers of equal names are equal too.
    if (name.data() == op) {
      last = kernel;
      return;
    }
  }
  last_kernels.emplace_back(op, kernel);
}

void log_fallback(const char* op, Kernel wanted, const char* used) {
  static std::mutex mutex;
  static std::set<std::pair<std::string, Kernel>> logged;
  const std::lock_guard lock(mutex);
  if (logged.emplace(op, wanted).second) {
    log(format("{}: no {} kernel can run with these arguments, using {} (said once)", op, name(wanted), used));
  }
}

void fail_unavailable(const char* op, Device device, Kernel wanted, const std::vector<Refusal>& refusals) {
  std::string text = format("no {} kernel on {} takes these arguments", name(wanted), device);
  for (const auto& r : refusals) {
    text += format("\n  {} ({}): {}", r.name, name(r.kind), r.reason == nullptr ? "can run" : r.reason);
  }
  if (refusals.empty()) text += "; none is registered for this device";
  fail<KernelUnavailable>(op, "{}", text);
}

}  // namespace detail
}  // namespace trinix
