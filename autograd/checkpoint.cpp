#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include <trinix/autograd/autocast.h>
#include <trinix/autograd/checkpoint.h>
#include <trinix/autograd/detail/backward_within.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/kernel.h>

namespace trinix {

using detail::fail;

namespace {

using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// Puts generators back to given states, and to what they were before when it goes.
class GeneratorsAt {
 public:
  GeneratorsAt(const std::vector<Generator*>& generators, const std::vector<RandomState>& states)
      : generators_(generators) {
    for (Generator* g : generators_) before_.push_back(g->state());
    for (std::size_t i = 0; i < generators_.size(); ++i) generators_[i]->set_state(states[i]);
  }
  ~GeneratorsAt() {
    for (std::size_t i = 0; i < generators_.size(); ++i) generators_[i]->set_state(before_[i]);
  }
  GeneratorsAt(const GeneratorsAt&) = delete;
  GeneratorsAt& operator=(const GeneratorsAt&) = delete;

 private:
  const std::vector<Generator*>& generators_;
  std::vector<RandomState> before_;
};

/// One run of the function, cut off from the history of its inputs.
struct Recorded {
  std::vector<Tensor> inputs;   ///< leaves of their own
  std::uint64_t first = 0;      ///< number of the first node of the run
  std::vector<Tensor> outputs;  ///< still with their history
};

/// Runs in the given mixed precision, or none. With a scope of its own it also makes its own casts of leaves, both
/// times.
Recorded run_recorded(const Function& function, const std::vector<Tensor>& inputs, const std::vector<bool>& wanted,
                      std::optional<DType> autocast) {
  Recorded run;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    run.inputs.push_back(inputs[i].defined() ? inputs[i].detach() : Tensor());
    if (wanted[i]) run.inputs.back().requires_grad_();
  }
  run.first = next_node_sequence();
  const EnableGrad recording;
  const NoAutocast none;
  std::optional<Autocast> scope;
  if (autocast) scope.emplace(*autocast);
  run.outputs = function(run.inputs);
  return run;
}

/// What the run's graph hangs on besides its inputs: tensors that existed before.
std::vector<Edge> captured_by(const Recorded& run) {
  std::unordered_set<const Node*> own;
  for (const Tensor& input : run.inputs) {
    if (input.defined() && input.autograd() != nullptr) own.insert(input.autograd()->node.get());
  }
  std::vector<Edge> captured;
  std::unordered_set<const Node*> seen;
  std::vector<const Node*> stack;
  const auto reach = [&](const Edge& edge) {
    if (edge.node == nullptr || own.count(edge.node.get()) > 0) return;
    if (edge.node->sequence() >= run.first) {
      if (seen.insert(edge.node.get()).second) stack.push_back(edge.node.get());
      return;
    }
    const bool known = std::any_of(captured.begin(), captured.end(),
                                   [&](const Edge& c) { return c.node == edge.node && c.index == edge.index; });
    if (!known) captured.push_back(edge);
  };
  for (const Tensor& output : run.outputs) {
    if (output.defined() && output.autograd() != nullptr) reach({output.autograd()->node, output.autograd()->index});
  }
  while (!stack.empty()) {
    const Node* node = stack.back();
    stack.pop_back();
    for (const Edge& edge : node->edges) reach(edge);
  }
  return captured;
}

/// A result that is an input, a captured tensor, or a view of one must not share its memory: a write to it would reach
/// the other unnoticed.
Tensor own_result(const Tensor& result, const Recorded& run) {
  const bool shared = std::any_of(run.inputs.begin(), run.inputs.end(), [&](const Tensor& input) {
    return input.defined() && input.storage() == result.storage();
  });
  const auto older = [&](const Tensor& t) {
    return t.autograd() != nullptr && t.autograd()->node->sequence() < run.first;
  };
  return shared || older(result) || (result.is_view() && older(result.base())) ? result.detach().clone()
                                                                               : result.detach();
}

class CheckpointNode final : public Node {
 public:
  CheckpointNode(Function function, const std::vector<Tensor>& inputs, const CheckpointOptions& options)
      : Node("checkpoint"),
        function_(std::move(function)),
        generators_(options.generators),
        kernel_(resolve({})),
        autocast_(Autocast::current()) {
    generators_.push_back(&default_generator());
    for (const Generator* g : generators_) states_.push_back(g->state());
    for (const Tensor& input : inputs) {
      const auto record = input.defined() ? input.autograd() : nullptr;
      wanted_.push_back(record != nullptr);
      edges.push_back(record != nullptr ? Edge{record->node, record->index} : Edge{});
      saved.emplace_back(input);
    }
  }

  [[nodiscard]] bool is_composite() const override { return true; }
  [[nodiscard]] const std::vector<bool>& wanted() const { return wanted_; }
  [[nodiscard]] const Function& function() const { return function_; }

  /// Notes what the first run hangs on.
  void capture(const Recorded& run) {
    captured_ = captured_by(run);
    for (const Edge& edge : captured_) edges.push_back(edge);
    for (const Edge& edge : captured_) {
      const LeafNode* leaf = edge.node->as_leaf();
      const auto storage = leaf != nullptr ? leaf->storage() : nullptr;
      versions_.emplace_back(storage, storage != nullptr ? storage->version() : 0);
    }
  }

  void release() override {
    Node::release();
    function_ = nullptr;
  }

  void backward(BackwardContext& context) override {
    check_unchanged();
    const Recorded run = run_again();
    std::vector<Tensor> results;
    std::vector<Tensor> gradients;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!context.has_grad(static_cast<int>(i)) || run.outputs[i].autograd() == nullptr) continue;
      results.push_back(run.outputs[i]);
      gradients.push_back(context.grad(static_cast<int>(i)));
    }
    if (results.empty()) return;

    std::vector<Edge> ends(edges.size());
    std::vector<GradWanted> wanted(edges.size());
    for (std::size_t i = 0; i < edges.size(); ++i) {
      wanted[i] = context.wanted(static_cast<int>(i));
      if (i >= run.inputs.size()) {
        ends[i] = edges[i];
      } else if (wanted[i] != GradWanted::no) {
        // The run has leaves of its own for the inputs; their gradients are handed on, wherever these go.
        ends[i] = {run.inputs[i].autograd()->node, 0};
        wanted[i] = GradWanted::yes;
      }
    }
    const std::vector<Tensor> found = detail::backward_within(run.first, results, gradients, ends, wanted);
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i].defined()) context.give(static_cast<int>(i), found[i]);
    }
  }

 private:
  void check_unchanged() const {
    for (const auto& [storage, version] : versions_) {
      const auto now = storage.lock();
      if (now != nullptr && now->version() != version) {
        fail<AutogradError>("backward",
                            "a leaf used by the function of a 'checkpoint' was changed in place by '{}' before the "
                            "backward could run the function again; run the backward first",
                            now->last_writer());
      }
    }
  }

  [[nodiscard]] Recorded run_again() const {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < wanted_.size(); ++i) inputs.push_back(saved[i].unpack(op()));
    const GeneratorsAt then(generators_, states_);
    const KernelScope scope(kernel_);
    Recorded run = run_recorded(function_, inputs, wanted_, autocast_);
    check_same(run);
    return run;
  }

  /// The second run must be the first again, or gradients would go astray.
  void check_same(const Recorded& run) const {
    if (run.outputs.size() != outputs.size()) {
      fail<AutogradError>("checkpoint", "the function gave {} results at first and {} when it was run again",
                          outputs.size(), run.outputs.size());
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!run.outputs[i].defined() || run.outputs[i].shape() != outputs[i].shape ||
          run.outputs[i].dtype() != outputs[i].dtype) {
        fail<AutogradError>("checkpoint",
                            "result {} of the function had shape {}, {} at first, and another when it was "
                            "run again",
                            i, outputs[i].shape, outputs[i].dtype);
      }
    }
    const std::vector<Edge> again = captured_by(run);
    const bool same =
        again.size() == captured_.size() && std::all_of(again.begin(), again.end(), [&](const Edge& edge) {
          return std::any_of(captured_.begin(), captured_.end(),
                             [&](const Edge& c) { return c.node == edge.node && c.index == edge.index; });
        });
    if (!same) {
      fail<AutogradError>("checkpoint",
                          "the function used other tensors that require grad when it was run again than at "
                          "first ({} instead of {}); it must do the same both times",
                          again.size(), captured_.size());
    }
  }

  Function function_;
  std::vector<Generator*> generators_;
  std::vector<RandomState> states_;
  KernelChoice kernel_;
  std::optional<DType> autocast_;
  std::vector<bool> wanted_;
  std::vector<Edge> captured_;
  std::vector<std::pair<std::weak_ptr<Storage>, std::uint32_t>> versions_;
};

}  // namespace

std::vector<Tensor> checkpoint_all(const Function& function, const std::vector<Tensor>& inputs,
                                   const CheckpointOptions& options) {
  if (!grad_enabled()) return function(inputs);
  for (const Tensor& input : inputs) {
    Edges unused;
    if (input.defined()) detail::add_edges("checkpoint", {input}, unused);  // refuses outdated views
  }
  const auto node = std::make_shared<CheckpointNode>(function, inputs, options);
  // The first run is recorded as well and its graph dropped at once. So every op behaves as it will the second time
  // (the choice of kernel, the refusal of inputs that require grad), and what the function captures is found. The peak
  // is that of the second run, which comes anyway.
  const Recorded run = run_recorded(function, inputs, node->wanted(), Autocast::current());
  node->capture(run);

  std::vector<Tensor> results;
  int index = 0;
  for (const Tensor& output : run.outputs) {
    if (!output.defined()) fail<AutogradError>("checkpoint", "result {} of the function is undefined", index);
    results.push_back(own_result(output, run));
    node->outputs.push_back({output.shape(), output.dtype(), output.device(), {}, {}});
    if (output.autograd() != nullptr) {
      auto record = std::make_shared<AutogradRecord>();
      record->node = node;
      record->index = index;
      results.back().set_autograd(std::move(record));
    }
    ++index;
  }
  return results;
}

Tensor checkpoint(const std::function<Tensor(const std::vector<Tensor>&)>& function, const std::vector<Tensor>& inputs,
                  const CheckpointOptions& options) {
  const auto one = [function](const std::vector<Tensor>& given) { return std::vector<Tensor>{function(given)}; };
  return checkpoint_all(one, inputs, options)[0];
}

}  // namespace trinix
