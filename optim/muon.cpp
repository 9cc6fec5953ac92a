#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/muon_direction.h>
#include <trinix/core/ops/update.h>
#include <trinix/optim/flat.h>
#include <trinix/optim/muon.h>

namespace trinix::optim {

using detail::fail;

namespace {

/// The parts of a name between dots, from the last to the first.
std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  while (!name.empty()) {
    const std::size_t dot = name.rfind('.');
    parts.push_back(dot == std::string_view::npos ? name : name.substr(dot + 1));
    name = dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
  }
  return parts;
}

bool is_fused_qkv(const std::string& name) {
  const auto parts = parts_of(name);
  constexpr std::string_view kLayers[] = {"c_attn", "qkv", "qkv_proj", "in_proj", "wqkv"};
  return std::ranges::any_of(
      kLayers, [&](std::string_view layer) { return parts.size() >= 2 && (parts[1] == layer || parts[0] == layer); });
}

/// Rows of the matrices that a parameter is taken apart into.
std::vector<std::int64_t> blocks_of(const std::string& name, std::int64_t rows, const MuonOptions& options) {
  if (options.fused_qkv == FusedQkv::whole || !is_fused_qkv(name)) return {rows};
  return options.qkv_rows.empty() ? std::vector<std::int64_t>(3, rows / 3) : options.qkv_rows;
}

double scale_of(MuonScale rule, std::int64_t rows, std::int64_t cols) {
  const auto r = static_cast<double>(rows);
  const auto c = static_cast<double>(cols);
  switch (rule) {
    case MuonScale::original:
      return std::sqrt(std::max(1.0, r / c));
    case MuonScale::match_rms_adamw:
      return 0.2 * std::sqrt(std::max(r, c));
    default:
      return std::sqrt(r / c);
  }
}

/// What the iteration is computed in.
DType iteration_dtype(const Tensor& parameter) {
  if (parameter.dtype() == DType::f64) return DType::f64;
  if (parameter.device().is_cpu()) return DType::f32;
  return parameter.dtype() == DType::f16 ? DType::f16 : DType::bf16;
}

/// Part of a tensor's memory.
Flat part(const Flat& whole, std::int64_t first, std::int64_t count) {
  char* const data = whole.data == nullptr ? nullptr : whole.as<char>();
  return {data + first * static_cast<std::int64_t>(size_of(whole.dtype)), count, whole.dtype};
}

}  // namespace

void MuonOptions::validate() const {
  check_not_negative("Muon", "lr", lr);
  check_not_negative("Muon", "weight_decay", weight_decay);
  check_not_negative("Muon", "eps", eps);
  if (!(momentum >= 0 && momentum < 1)) {
    fail<ConfigError>("Muon", "momentum is {}, but must lie in [0, 1)", momentum);
  }
  static_cast<void>(newton_schulz_steps(ns_coefficients, ns_steps));
  if (scale > MuonScale::spectral) fail<ConfigError>("Muon", "there is no scale number {}", static_cast<int>(scale));
  check_state_options("Muon", state);
}

void MuonOptions::check(const std::string& name, const Tensor& parameter) const {
  if (parameter.rank() != 2) {
    fail<ShapeError>("Muon",
                     "the parameter '{}' has shape {}, but Muon takes matrices only: give the others to AdamW, as "
                     "muon_with_adamw() does",
                     name, parameter.shape());
  }
  std::int64_t rows = 0;
  for (const std::int64_t block : blocks_of(name, parameter.size(0), *this)) {
    if (block < 1) fail<ShapeError>("Muon", "a block of the parameter '{}' has {} rows", name, block);
    rows += block;
  }
  if (rows != parameter.size(0)) {
    fail<ShapeError>("Muon", "the parameter '{}' has {} rows, but its blocks have {} together: set qkv_rows", name,
                     parameter.size(0), rows);
  }
}

Muon::Muon(const std::vector<ParamGroup<MuonOptions>>& groups)
    : GroupedOptimizer("Muon", {"momentum_buffer"}, groups) {}

Muon::~Muon() = default;

/// Matrices that go through the iteration together.
struct Muon::Batch {
  Device device;
  std::int64_t rows, cols;
  DType parameter, momentum, iteration;
  NewtonSchulzCoefficients coefficients;
  int steps;
  std::vector<MuonItem> directions;  // their `out` is filled in when the memory is known
  std::vector<UpdateItem> updates;   // likewise `grad`

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(directions.size()); }
  [[nodiscard]] std::int64_t elements() const { return count() * rows * cols; }
  [[nodiscard]] std::int64_t work_elements() const {
    const std::int64_t m = std::min(rows, cols);
    return 2 * count() * m * m;
  }
  /// Two copies of the matrices and the work, each at a multiple of 64 bytes.
  [[nodiscard]] std::int64_t padded(std::int64_t n) const { return (n + 63) / 64 * 64; }
  [[nodiscard]] std::int64_t memory() const {
    return (2 * padded(elements()) + padded(work_elements())) * static_cast<std::int64_t>(size_of(iteration));
  }
  [[nodiscard]] bool takes(const Batch& other) const {
    return device == other.device && rows == other.rows && cols == other.cols && parameter == other.parameter &&
           momentum == other.momentum && iteration == other.iteration && coefficients == other.coefficients &&
           steps == other.steps;
  }
};

struct Muon::Plan {
  /// What slots of one group, of one number of steps, and of matrices of one shape share.
  struct Shared {
    std::size_t slot;
    std::int64_t rows, cols;
  };

  std::vector<Batch> batches;
  std::vector<Shared> shared;  // for each rule
  std::vector<std::size_t> slots;
  std::vector<Tensor> gradients;  // copies of strided ones, which must live until the launch
  std::vector<MuonRule> directions;
  std::vector<UpdateRule> updates;
  // In device memory, for a captured step.
  MuonFactors* direction_factors = nullptr;
  UpdateFactors* update_factors = nullptr;
};

namespace {

MuonRule direction_rule(const MuonOptions& o) {
  return {.momentum = o.momentum,
          .nesterov = o.nesterov,
          .maximize = o.maximize,
          .eps = o.eps,
          .margin = newton_schulz_margin(o.ns_coefficients)};
}

/// p = p (1 - lr weight_decay) - lr scale X.
UpdateRule update_rule(const MuonOptions& o, std::int64_t step, std::int64_t rows, std::int64_t cols) {
  return {.lr = o.lr,
          .scale = scale_of(o.scale, rows, cols),
          .weight_decay = o.weight_decay,
          .decoupled = true,
          .step = step,
          .seed = o.state.seed};
}

}  // namespace

Muon::Plan Muon::make_plan() {
  Plan plan;
  const auto rule_for = [&](std::size_t index, std::int64_t rows, std::int64_t cols) {
    const Slot& slot = slots()[index];
    for (std::size_t i = 0; i < plan.shared.size(); ++i) {
      const Plan::Shared& rule = plan.shared[i];
      const Slot& other = slots()[rule.slot];
      if (other.group == slot.group && other.step == slot.step && rule.rows == rows && rule.cols == cols) {
        return static_cast<std::int32_t>(i);
      }
    }
    plan.shared.push_back({index, rows, cols});
    return static_cast<std::int32_t>(plan.shared.size() - 1);
  };
  std::int64_t random = 0;
  for (std::size_t i = 0; i < slots().size(); ++i) {
    Slot& slot = slots()[i];
    const Tensor& p = slot.parameter;
    const std::int64_t first_random = random;
    random += p.numel() + 8;
    const Tensor gradient = gradient_of(slot);
    if (!gradient.defined() || gradient.numel() == 0) continue;
    const MuonOptions& o = options(slot.group);
    o.check(slot.name, p);
    prepare_state(slot);
    // A captured step looks before each replay.
    if (slot.master.defined() && Capture::current() == nullptr && changed_by_others(slot)) follow_parameter(slot);
    plan.slots.push_back(i);
    plan.gradients.push_back(gradient);
    std::int64_t first = 0;
    for (const std::int64_t rows : blocks_of(slot.name, p.size(0), o)) {
      const std::int64_t cols = p.size(1);
      const Batch like{p.device(),        rows,       cols, p.dtype(), slot.state[0].dtype(), iteration_dtype(p),
                       o.ns_coefficients, o.ns_steps, {},   {}};
      auto batch = std::ranges::find_if(plan.batches, [&](const Batch& b) { return b.takes(like); });
      if (batch == plan.batches.end()) batch = plan.batches.insert(batch, like);
      const std::int32_t rule = rule_for(i, rows, cols);
      const std::int64_t count = rows * cols;
      batch->directions.push_back({.grad = part(flat(gradient), first, count),
                                   .momentum = part(flat(slot.state[0]), first, count),
                                   .out = {nullptr, count, iteration_dtype(p)},
                                   .rule = rule});
      batch->updates.push_back({.param = part(flat(p), first, count),
                                .grad = {nullptr, count, iteration_dtype(p)},
                                .master = slot.master.defined() ? part(flat(slot.master), first, count) : Flat{},
                                .rule = rule,
                                .stochastic = rounds_stochastically(slot),
                                .random = first_random + (first + 7) / 8});
      first += count;
    }
  }
  refresh(plan);
  return plan;
}

void Muon::refresh(Plan& plan) const {
  plan.directions.clear();
  plan.updates.clear();
  for (const Plan::Shared& shared : plan.shared) {
    const Slot& slot = slots()[shared.slot];
    plan.directions.push_back(direction_rule(options(slot.group)));
    plan.updates.push_back(update_rule(options(slot.group), slot.step + 1, shared.rows, shared.cols));
  }
}

void Muon::prepare_memory(const Plan& plan) {
  std::int64_t bytes = 0;
  for (const Batch& batch : plan.batches) bytes = std::max(bytes, batch.memory());
  if (plan.batches.empty()) return;
  const Device device = plan.batches.front().device;
  for (const Batch& batch : plan.batches) {
    if (batch.device == device) continue;
    fail<DeviceError>("Muon", "one parameter is on {}, another on {}: make an optimizer for each device", device,
                      batch.device);
  }
  if (!memory_.defined() || memory_.device() != device || memory_.numel() < bytes) {
    refuse_while_captured("step");
    memory_ = empty({bytes}, {DType::u8, device});
  }
  if (Capture* const capture = Capture::current()) capture->keep(memory_.storage());
}

void Muon::run_batch(const Plan& plan, const Batch& batch, const StepOptions& step_options, bool count_skipped) {
  const auto slice = [&](std::int64_t first, const Shape& shape) {
    return Tensor(memory_.storage(), batch.iteration, shape, contiguous_strides(shape), first);
  };
  const Shape shape{batch.count(), batch.rows, batch.cols};
  const std::int64_t padded = batch.padded(batch.elements());
  const Tensor x = slice(0, shape);
  const Tensor out = slice(padded, shape);
  const Tensor work = slice(2 * padded, {batch.work_elements()});
  const GradientFactor gradient = gradient_factor_on(batch.device, step_options);

  std::vector<MuonItem> directions = batch.directions;
  std::vector<UpdateItem> updates = batch.updates;
  for (std::size_t i = 0; i < directions.size(); ++i) {
    const std::int64_t count = batch.rows * batch.cols;
    const auto first = static_cast<std::int64_t>(i) * count;
    directions[i].out = part(flat(x), first, count);
    updates[i].grad = part(flat(out), first, count);
  }
  MuonDirection::Forward direction{
      .items = directions, .rules = plan.directions, .gradient = gradient, .factors = plan.direction_factors};
  if (gradient.norm.defined && count_skipped) direction.skipped = skipped().raw();
  run<MuonDirection>(direction, batch.device);

  newton_schulz_(x, out, work, {.coefficients = batch.coefficients, .steps = batch.steps});

  // The gradient's scale and bounds are in the direction; here a norm that is not finite stops the update, too.
  trinix::Update::Forward update{.kind = UpdateKind::plain,
                                 .items = updates,
                                 .rules = plan.updates,
                                 .gradient = {.norm = gradient.norm},
                                 .factors = plan.update_factors};
  run<trinix::Update>(update, batch.device);
}

void Muon::update(const StepOptions& step_options) {
  const NoGrad no_grad;
  prepare_step(step_options);
  for (std::size_t g = 0; g < group_count(); ++g) validate(g);
  const auto plan = std::make_shared<Plan>(make_plan());
  if (plan->batches.empty()) return;
  prepare_memory(*plan);
  Capture* const capture = Capture::current();
  if (capture != nullptr) {
    const std::size_t rules = plan->shared.size();
    plan->direction_factors = static_cast<MuonFactors*>(capture->memory(rules * sizeof(MuonFactors)));
    plan->update_factors = static_cast<UpdateFactors*>(capture->memory(rules * sizeof(UpdateFactors)));
  }
  for (const Batch& batch : plan->batches) {
    refuse_other_capture(batch.device);
    run_batch(*plan, batch, step_options, &batch == plan->batches.data());
  }
  if (capture == nullptr) return count_step(plan->slots);

  // What is in the launches themselves, not in the factors.
  const auto fixed = [this] {
    std::vector<double> values;
    for (std::size_t g = 0; g < group_count(); ++g) {
      const MuonOptions& o = options(g);
      for (const auto value :
           {static_cast<int>(o.ns_coefficients), o.ns_steps, static_cast<int>(o.fused_qkv),
            o.state.master_weights ? 1 : 0, o.state.bf16_first_moment ? 1 : 0, o.state.stochastic_rounding ? 1 : 0}) {
        values.push_back(value);
      }
    }
    return values;
  };
  const auto holds = [fixed, captured = fixed()] { return fixed() == captured; };
  follow_replays(plan->slots, holds, [this, plan](const Stream& stream) {
    for (std::size_t g = 0; g < group_count(); ++g) validate(g);
    refresh(*plan);
    std::vector<MuonFactors> directions;
    std::vector<UpdateFactors> updates;
    for (const MuonRule& rule : plan->directions) directions.push_back(muon_factors(rule));
    for (const UpdateRule& rule : plan->updates) updates.push_back(update_factors(UpdateKind::plain, rule));
    Backend& backend = backend_of(stream.device);
    backend.write(plan->direction_factors, directions.data(), directions.size() * sizeof(MuonFactors), stream);
    backend.write(plan->update_factors, updates.data(), updates.size() * sizeof(UpdateFactors), stream);
  });
}

bool is_hidden_matrix(const NamedTensor& parameter) {
  if (parameter.tensor.rank() != 2) return false;
  constexpr std::string_view kOthers[] = {"wte", "wpe", "lm_head", "head", "output", "classifier"};
  return std::ranges::none_of(parts_of(parameter.name), [&](std::string_view part) {
    return std::ranges::find(kOthers, part) != std::end(kOthers) || part.find("emb") != std::string_view::npos;
  });
}

OptimizerList muon_with_adamw(const std::vector<NamedTensor>& parameters, const MuonOptions& muon,
                              const AdamWOptions& adamw) {
  std::vector<NamedTensor> hidden, rest;
  for (const NamedTensor& p : parameters) {
    if (p.tensor.requires_grad()) (is_hidden_matrix(p) ? hidden : rest).push_back(p);
  }
  if (hidden.empty()) fail<ConfigError>("muon_with_adamw", "none of the parameters is a hidden matrix");
  std::vector<std::unique_ptr<Optimizer>> members;
  members.push_back(std::make_unique<Muon>(hidden, muon));
  if (!rest.empty()) members.push_back(std::make_unique<AdamW>(decay_groups(rest, adamw)));
  return OptimizerList(std::move(members));
}

}  // namespace trinix::optim
