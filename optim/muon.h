#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <trinix/optim/adamw.h>
#include <trinix/optim/grouped_optimizer.h>
#include <trinix/optim/newton_schulz.h>
#include <trinix/optim/optimizer_list.h>

/// @file
/// Muon: momentum, orthogonalised.

namespace trinix::optim {

/// What the learning rate is multiplied by for a matrix of rows x cols. PyTorch's adjust_lr_fn knows the first two.
enum class MuonScale : std::uint8_t {
  original,         ///< sqrt(max(1, rows / cols)); Jordan et al., "Muon", 2024
  match_rms_adamw,  ///< 0.2 sqrt(max(rows, cols)): AdamW's lr and weight_decay fit. Liu et al., arXiv 2502.16982
  spectral,         ///< sqrt(rows / cols), rows being a layer's outputs. Yang et al., arXiv 2310.17813; so in Dion
};

/// How a projection to queries, keys and values in one matrix is orthogonalised.
enum class FusedQkv : std::uint8_t {
  whole,   ///< as the one matrix that it is, as PyTorch would
  blocks,  ///< queries, keys and values each by themselves
};

/// Names and defaults of torch.optim.Muon, lr 1e-3 among them, which fits MuonScale::match_rms_adamw; with the default
/// scale Jordan trains with 0.02.
struct MuonOptions {
  double lr = 1e-3;
  double weight_decay = 0.1;  ///< decoupled
  double momentum = 0.95;
  bool nesterov = true;
  NewtonSchulzCoefficients ns_coefficients = NewtonSchulzCoefficients::quintic;
  double eps = 1e-7;
  int ns_steps = 5;
  MuonScale scale = MuonScale::original;
  bool maximize = false;
  FusedQkv fused_qkv = FusedQkv::whole;
  /// Rows of the blocks of fused projections, for example those of queries, keys and values; three equal ones when
  /// empty. A fused projection is a weight of a layer named c_attn, qkv, qkv_proj, in_proj or wqkv. Not saved.
  std::vector<std::int64_t> qkv_rows = {};
  StateOptions state = {};

  /// @throws ConfigError for a negative lr, weight_decay or eps, a momentum outside [0, 1), or steps outside [1, 100].
  void validate() const;
  /// @throws ShapeError naming a parameter that is no matrix, or whose rows are not those of its blocks.
  void check(const std::string& name, const Tensor& parameter) const;
  /// Calls f(name, value) for each option that is saved.
  template <class F>
  void visit(F&& f) {
    f("lr", lr);
    f("weight_decay", weight_decay);
    f("momentum", momentum);
    f("nesterov", nesterov);
    f("ns_coefficients", ns_coefficients);
    f("eps", eps);
    f("ns_steps", ns_steps);
    f("adjust_lr_fn", scale);
    f("maximize", maximize);
    f("fused_qkv", fused_qkv);
  }
};

/// Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
/// kellerjordan.github.io/posts/muon. For hidden matrices only; muon_with_adamw() gives the rest to AdamW.
///
/// The momentum of each matrix (core/ops/muon_direction.h) goes through ns_steps of the Newton-Schulz iteration
/// (core/ops/newton_schulz.h), and the parameter moves by lr times the result, after decoupled decay. Matrices of one
/// shape are one batch, which takes two copies of the largest batch in 16 bits besides the state. The iteration runs in
/// bf16 on CUDA (f16 for f16 parameters), in f32 on the CPU, and in f64 for f64 parameters on both.
/// State: momentum_buffer.
class Muon : public GroupedOptimizer<MuonOptions> {
 public:
  explicit Muon(const std::vector<ParamGroup<MuonOptions>>& groups);
  explicit Muon(const std::vector<NamedTensor>& parameters, const MuonOptions& options = {})
      : Muon(std::vector<ParamGroup<MuonOptions>>{{parameters, options}}) {}
  explicit Muon(const std::vector<Tensor>& parameters, const MuonOptions& options = {})
      : Muon(unnamed(parameters), options) {}
  ~Muon() override;

 protected:
  void update(const StepOptions& options) override;

 private:
  struct Batch;
  struct Plan;
  [[nodiscard]] Plan make_plan();
  /// Fills in the rules with the present options and numbers of steps.
  void refresh(Plan& plan) const;
  /// Memory for the largest batch of the plan; what a captured step uses stays.
  void prepare_memory(const Plan& plan);
  void run_batch(const Plan& plan, const Batch& batch, const StepOptions& options, bool count_skipped);

  Tensor memory_;
};

/// Whether a parameter is what Muon is made for: a matrix that is no embedding and no head. By name: none of its parts
/// between dots is wte, wpe, lm_head, head, output, classifier or holds "emb".
[[nodiscard]] bool is_hidden_matrix(const NamedTensor& parameter);

/// Muon for the hidden matrices, AdamW for the rest, with weight decay for tensors of two or more dims only: one
/// optimizer in all respects. set_lr() sets Muon's learning rate and keeps the ratio of the two. Parameters that do not
/// require grad are left out. @throws ConfigError when there is no hidden matrix.
[[nodiscard]] OptimizerList muon_with_adamw(const std::vector<NamedTensor>& parameters, const MuonOptions& muon = {},
                                            const AdamWOptions& adamw = {});

/// The same for all parameters of a module.
template <class Module>
requires requires(const Module& m) { m.named_parameters(); }
[[nodiscard]] OptimizerList muon_with_adamw(const Module& module, const MuonOptions& muon = {},
                                            const AdamWOptions& adamw = {}) {
  return muon_with_adamw(module.named_parameters(), muon, adamw);
}

}  // namespace trinix::optim
