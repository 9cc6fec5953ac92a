#pragma once

#include "attention_naive.h"
#include "support/hang_watch.h"

#include <optional>

/// @file
/// Random configurations of attention: what is asked for, operands, a run by any kernel, the exact result, and how far
/// from it a kernel may be.

namespace trinix::testing {

/// Small whole numbers, a function of the seed.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : seed_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high);
  bool one_in(std::int64_t n) { return between(1, n) == 1; }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

struct AttentionConfig {
  enum class Mask { none, boolean, own, f32 };
  enum class Placement { contiguous, heads_first, packed };

  DType dtype;
  Placement placement;
  std::int64_t batch, queries, keys, key_heads, group, depth, value_depth;
  Mask mask = Mask::none;
  Shape mask_shape = {};
  bool with_lse = false;  ///< lse has a share in the loss
  bool deterministic = false;
  NaiveAttention options = {};  ///< without a mask's values

  [[nodiscard]] std::int64_t heads() const { return key_heads * group; }
  [[nodiscard]] bool several() const { return !options.query_starts.empty(); }
  [[nodiscard]] std::string text() const;
};

/// Draws windows, dropout, scale, sequences of their own, slopes and masks for a configuration that has its sizes, and
/// makes these such as its placement allows.
void draw_attention_options(Draw& draw, std::uint64_t seed, AttentionConfig& config, std::int64_t longest_left,
                            std::int64_t longest_right);

struct AttentionOperands {
  std::vector<Tensor> leaves;  ///< q, k, v, and the mask where it is floating
  Tensor visible;              ///< the mask where it is boolean
  Tensor dout, dlse;

  /// The same numbers in a wider dtype.
  [[nodiscard]] AttentionOperands to(DType dtype) const;
};

/// What the configuration asks for, rounded to its dtype, on the CPU.
[[nodiscard]] AttentionOperands draw_attention_operands(const AttentionConfig& config, std::uint64_t seed);

/// out, lse, then the gradients of the leaves.
using AttentionValues = std::vector<std::vector<double>>;
inline constexpr const char* kAttentionValueNames[] = {"out", "lse", "dq", "dk", "dv", "dmask"};

/// @param used the name of the implementation that ran (null: not asked for)
/// @throws KernelUnavailable
[[nodiscard]] AttentionValues run_attention(const AttentionConfig& config, const AttentionOperands& operands,
                                            Kernel kernel, Device device, std::string* used = nullptr);

/// By the definition, in f64.
[[nodiscard]] AttentionValues exact_attention(const AttentionConfig& config, const AttentionOperands& operands);

/// || a - b ||; infinite when infinities or NaN are not in the same places.
[[nodiscard]] double distance(const std::vector<double>& a, const std::vector<double>& b);
/// || x || of what is finite.
[[nodiscard]] double norm_of(const std::vector<double>& x);

/// Half a unit in the last place of 1.
[[nodiscard]] double unit_of(DType dtype);

/// What nobody does better, in value `i`, without keeping more than out and lse.
[[nodiscard]] double attention_error_floor(const AttentionConfig& config, const AttentionValues& exact, std::size_t i);

/// Whether the device runs Kernel::flash.
[[nodiscard]] bool has_flash(Device device);

/// A kernel that keeps no matrix of scores, and its device.
struct TiledKernel {
  Device device;
  Kernel kernel;
};
[[nodiscard]] inline Device device_of(const TiledKernel& k) { return k.device; }
/// All of the machine: Kernel::flash on the CPU; Kernel::fused and, on a Hopper, Kernel::flash on a card.
[[nodiscard]] std::vector<TiledKernel> tiled_kernels();
/// "flash_cpu", "fused_cuda", ...
[[nodiscard]] std::string tiled_kernel_name(const ::testing::TestParamInfo<TiledKernel>& info);

/// A fixture whose tests run once for each of them. What hangs on a card ends the process.
class OnTiledKernel : public OnDeviceOf<TiledKernel> {
 protected:
  void SetUp() override;
  void TearDown() override {
    set_deterministic(false);
    watch_.reset();
  }
  [[nodiscard]] static Kernel tiled() { return GetParam().kernel; }
  [[nodiscard]] static bool on_tensor_cores() { return !device().is_cpu(); }
  [[nodiscard]] static DType dtype() { return device().is_cpu() ? DType::f32 : DType::bf16; }

 private:
  std::optional<HangWatch> watch_;
};

}  // namespace trinix::testing
