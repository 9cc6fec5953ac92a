#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/device.h>

/// @file
/// How an op finds the code that runs it. An op contract (core/ops/) names its arguments; each backend registers one
/// or more Impl records; KernelTable::select picks among them.

namespace trinix {

/// Families of kernels. What Trinix calls 'flash', 'triton' and 'pytorch' are here `flash`, `fused` and `reference`.
enum class Kernel : std::uint8_t { automatic, flash, fused, reference };

/// "automatic", "flash", "fused", "reference".
[[nodiscard]] std::string_view name(Kernel kernel);
/// @throws ConfigError listing the names.
[[nodiscard]] Kernel parse_kernel(std::string_view text);

/// What to do when a kernel asked for by name cannot run.
enum class OnUnavailable : std::uint8_t {
  error,    ///< throw KernelUnavailable, listing every candidate and its reason
  fallback  ///< choose automatically, and log that once per op
};

/// Which kernel to use. Converts from Kernel, so `layer_norm(x, w, b, eps, Kernel::reference)` reads naturally.
struct KernelChoice {
  Kernel kernel = Kernel::automatic;
  OnUnavailable otherwise = OnUnavailable::error;

  KernelChoice() = default;
  KernelChoice(Kernel k, OnUnavailable o = OnUnavailable::error) : kernel(k), otherwise(o) {}
};

/// Sets the choice of every op called on this thread while the scope lives and whose own argument is `automatic`.
class KernelScope {
 public:
  explicit KernelScope(KernelChoice choice);
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  KernelChoice previous_;
};

/// Precedence: the argument, the innermost KernelScope, the environment variable TRINIX_KERNEL, automatic.
[[nodiscard]] KernelChoice resolve(KernelChoice argument);

/// Marks an op contract whose implementations have no backward.
struct NoBackward {};

/// One implementation of an op. Forward and backward are one record, so a choice covers both directions.
template <class Op>
struct Impl {
  const char* name;
  Kernel kind;
  DeviceType device;
  int priority;
  /// Why these arguments cannot be taken, as a fixed sentence, or nullptr. Null: everything is taken.
  const char* (*why_not)(const typename Op::Forward& args, bool needs_grad);
  void (*forward)(const typename Op::Forward& args, const Stream& stream);
  void (*backward)(const typename Op::Backward& args, const Stream& stream);
};

/// A row of `list_kernels()`.
struct KernelInfo {
  std::string op;
  std::string name;
  Kernel kind;
  DeviceType device;
  int priority;
  bool has_backward;
};

/// Every registered implementation, by op. Composed reference twins need no registration and are not listed.
[[nodiscard]] std::vector<KernelInfo> list_kernels();

/// Name of the implementation that this thread last ran for the op, "reference" for a composed one, "" for none.
[[nodiscard]] std::string last_kernel(std::string_view op);

namespace detail {
/// One candidate and what speaks against it, for the error text.
struct Refusal {
  const char* name;
  Kernel kind;
  const char* reason;
};
using KernelLister = void (*)(std::vector<KernelInfo>&);
void register_kernel_lister(KernelLister lister);
void note_kernel(const char* op, const char* kernel);
void log_fallback(const char* op, Kernel wanted, const char* used);
[[noreturn]] void fail_unavailable(const char* op, Device device, Kernel wanted, const std::vector<Refusal>& refusals);
}  // namespace detail

/// The implementations of one op. Filled by initialize(); read-only afterwards unless a third party adds to it.
template <class Op>
class KernelTable {
 public:
  static KernelTable& instance() {
    static KernelTable table;
    return table;
  }

  /// Not safe while another thread selects: register before work starts.
  void add(const Impl<Op>& impl) {
    auto& list = impls_[static_cast<int>(impl.device)];
    const auto lower = [&](const Impl<Op>& other) { return other.priority < impl.priority; };
    list.insert(std::find_if(list.begin(), list.end(), lower), impl);
  }

  /// The best implementation with nothing against it. Returns nullptr when the composed reference twin shall run,
  /// which only ops with `Op::kHasReference` have. @throws KernelUnavailable.
  const Impl<Op>* select(const typename Op::Forward& args, Device device, bool needs_grad,
                         KernelChoice argument = {}) const {
    const KernelChoice choice = Op::kHasReference ? resolve(argument) : argument;
    const Impl<Op>* found = first_willing(args, device, needs_grad, choice.kernel);
    return found != nullptr ? found : without_first_choice(args, device, needs_grad, choice, argument);
  }

  [[nodiscard]] const std::vector<Impl<Op>>& impls(DeviceType device) const { return impls_[static_cast<int>(device)]; }

 private:
  KernelTable() { detail::register_kernel_lister(&list_into); }

  static const char* refuse(const Impl<Op>& impl, Kernel wanted, const typename Op::Forward& args, bool needs_grad) {
    if (wanted != Kernel::automatic && impl.kind != wanted) return "is of another kind";
    if (needs_grad && impl.backward == nullptr) return "has no backward, and an input requires grad";
    return impl.why_not == nullptr ? nullptr : impl.why_not(args, needs_grad);
  }

  const Impl<Op>* first_willing(const typename Op::Forward& args, Device device, bool needs_grad, Kernel wanted) const {
    for (const auto& impl : impls_[static_cast<int>(device.type)]) {
      if (refuse(impl, wanted, args, needs_grad) != nullptr) continue;
      detail::note_kernel(Op::kName, impl.name);
      return &impl;
    }
    return nullptr;
  }

  [[nodiscard]] bool has_kind(Device device, Kernel kind) const {
    const auto& list = impls_[static_cast<int>(device.type)];
    return std::any_of(list.begin(), list.end(), [&](const auto& impl) { return impl.kind == kind; });
  }

  const Impl<Op>* without_first_choice(const typename Op::Forward& args, Device device, bool needs_grad,
                                       KernelChoice choice, KernelChoice argument) const {
    const bool named = choice.kernel != Kernel::automatic && choice.kernel != Kernel::reference;
    if (named && argument.kernel == Kernel::automatic && !has_kind(device, choice.kernel)) {
      // A scope or the environment speaks to many ops; one that has no such kernel at all is not meant.
      choice = {};
      const Impl<Op>* best = first_willing(args, device, needs_grad, Kernel::automatic);
      if (best != nullptr) return best;
    } else if (named && choice.otherwise == OnUnavailable::fallback) {
      const Impl<Op>* best = first_willing(args, device, needs_grad, Kernel::automatic);
      detail::log_fallback(Op::kName, choice.kernel, best == nullptr ? "reference" : best->name);
      if (best != nullptr) return best;
    }
    if (Op::kHasReference && (choice.kernel == Kernel::automatic || choice.kernel == Kernel::reference ||
                              choice.otherwise == OnUnavailable::fallback)) {
      detail::note_kernel(Op::kName, "reference");
      return nullptr;
    }
    std::vector<detail::Refusal> refusals;
    for (const auto& impl : impls_[static_cast<int>(device.type)]) {
      refusals.push_back({impl.name, impl.kind, refuse(impl, choice.kernel, args, needs_grad)});
    }
    detail::fail_unavailable(Op::kName, device, choice.kernel, refusals);
  }

  static void list_into(std::vector<KernelInfo>& out) {
    for (const auto& list : instance().impls_) {
      for (const auto& impl : list) {
        out.push_back({Op::kName, impl.name, impl.kind, impl.device, impl.priority, impl.backward != nullptr});
      }
    }
  }

  std::array<std::vector<Impl<Op>>, kDeviceTypes> impls_;
};

/// Adds an implementation to its op's table.
template <class Op>
void register_kernel(const Impl<Op>& impl) {
  KernelTable<Op>::instance().add(impl);
}

/// Selects and runs the forward of an op that has neither a choice of kernel nor a backward of its own.
template <class Op>
void run(const typename Op::Forward& args, Device device) {
  KernelTable<Op>::instance().select(args, device, false)->forward(args, stream_of(device));
}

}  // namespace trinix
