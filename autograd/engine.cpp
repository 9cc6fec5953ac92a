#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include <trinix/autograd/autocast.h>
#include <trinix/autograd/detail/backward_within.h>
#include <trinix/autograd/engine.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix {

using detail::fail;

namespace {

/// What one run of the engine knows of one node.
struct NodeState {
  int pending = 0;     ///< edges into the node whose gradient has not arrived
  bool found = false;  ///< discover() has been here
  bool wanted = true;  ///< something that is wanted lies on a path from here, or here
  bool passed = true;  ///< something that is wanted lies behind: the node's backward must run
  bool queued = false;
  std::vector<Tensor> gradients;                      ///< sums so far, by output
  std::vector<std::pair<int, std::size_t>> captures;  ///< (output, position in the result)
};

/// What a run shall produce.
struct Goal {
  const char* name = "backward";       ///< of the public function, for error texts
  bool all_leaves = false;             ///< add to grad() of every leaf
  std::uint64_t first = 0;             ///< nodes with smaller numbers are where the run ends
  std::unordered_set<Node*> leaves{};  ///< add to grad() of these
};

class Run {
 public:
  Run(const BackwardOptions& options, Goal goal) : options_(options), goal_(std::move(goal)) {}

  void add_root(const Tensor& output, Tensor gradient) {
    const auto& record = output.autograd();
    if (record == nullptr) {
      fail<AutogradError>(goal_.name,
                          "the tensor of shape {} does not require grad and was not computed from one that "
                          "does, so there is nothing to differentiate",
                          output.shape());
    }
    if (!gradient.defined()) {
      if (output.numel() != 1) {
        fail<AutogradError>(goal_.name,
                            "the tensor has shape {}; without a gradient argument only a one-element tensor "
                            "can be differentiated: reduce it first, or pass a gradient",
                            output.shape());
      }
      gradient = ones_like(output);
    }
    check_fits(output, gradient);
    roots_.push_back({record->node, record->index});
    root_gradients_.push_back(gradient);
  }

  /// Asks for the gradient that arrives at `edge`, at this position of the result.
  void want(const Edge& edge, std::size_t position) {
    states_[edge.node.get()].captures.emplace_back(edge.index, position);
    captured_.resize(std::max(captured_.size(), position + 1));
  }

  /// Returns the gradients that were asked for.
  std::vector<Tensor> execute() {
    discover();
    if (!goal_.all_leaves) mark_wanted();
    for (std::size_t i = 0; i < roots_.size(); ++i) add_gradient(roots_[i], root_gradients_[i]);
    root_gradients_.clear();
    for (const Edge& root : roots_) enqueue_if_ready(root.node.get());
    const NoGrad no_grad;
    const NoAutocast no_autocast;  // gradients have the types of the forward
    while (!ready_.empty()) {
      Node* node = ready_.top();
      ready_.pop();
      visit(*node);
    }
    return std::move(captured_);
  }

 private:
  struct BySequence {
    bool operator()(const Node* a, const Node* b) const { return a->sequence() < b->sequence(); }
  };

  void check_fits(const Tensor& output, const Tensor& gradient) const {
    if (gradient.shape() != output.shape()) {
      fail<ShapeError>(goal_.name, "the gradient has shape {}, its tensor {}; they must be equal", gradient.shape(),
                       output.shape());
    }
    if (gradient.dtype() != output.dtype()) {
      fail<DtypeError>(goal_.name, "the gradient is {}, its tensor {}; they must be equal", gradient.dtype(),
                       output.dtype());
    }
    if (gradient.device() != output.device()) {
      fail<DeviceError>(goal_.name, "the gradient is on {}, its tensor on {}; they must be on one device",
                        gradient.device(), output.device());
    }
  }

  [[nodiscard]] bool is_end(const Node& node) const { return node.sequence() < goal_.first; }
  /// Whether the node is a leaf whose grad() this run adds to.
  [[nodiscard]] bool is_target(Node* node) const {
    return node->as_leaf() != nullptr && (goal_.all_leaves || goal_.leaves.count(node) > 0);
  }

  /// Finds every node below the roots and counts the edges into each.
  void discover() {
    std::vector<Node*> stack;
    const auto reach = [&](Node* node) {
      NodeState& state = states_[node];
      if (!std::exchange(state.found, true)) {
        state.gradients.resize(node->outputs.size());
        order_.push_back(node);
        if (!is_end(*node)) stack.push_back(node);
      }
    };
    for (const Edge& root : roots_) reach(root.node.get());
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& edge : node->edges) {
        if (edge.node == nullptr) continue;
        reach(edge.node.get());
        ++states_[edge.node.get()].pending;
      }
    }
  }

  /// Inputs have smaller sequence numbers than the ops that use them, so one ascending pass settles every node.
  void mark_wanted() {
    std::sort(order_.begin(), order_.end(), BySequence());
    for (Node* node : order_) {
      NodeState& state = states_[node];
      state.passed = !is_end(*node) && std::any_of(node->edges.begin(), node->edges.end(), [&](const Edge& edge) {
        return edge.node != nullptr && states_[edge.node.get()].wanted;
      });
      state.wanted = state.passed || !state.captures.empty() || is_target(node);
    }
  }

  void visit(Node& node) {
    NodeState& state = states_[&node];
    const bool reached =
        std::any_of(state.gradients.begin(), state.gradients.end(), [](const Tensor& t) { return t.defined(); });
    if (reached && state.wanted) {
      run_hooks(node, state);
      for (const auto& [output, position] : state.captures) {
        captured_[position] = state.gradients[static_cast<std::size_t>(output)];
      }
      if (is_target(&node)) {
        node.as_leaf()->accumulate(state.gradients[0]);
      } else if (state.passed && node.as_leaf() == nullptr) {
        propagate(node, std::move(state.gradients));
        if (!options_.retain_graph) node.release();
      }
    }
    state.gradients.clear();
    if (is_end(node)) return;
    for (const Edge& edge : node.edges) {
      if (edge.node == nullptr) continue;
      --states_[edge.node.get()].pending;
      enqueue_if_ready(edge.node.get());
    }
  }

  void run_hooks(Node& node, NodeState& state) const {
    // A nested run ends at gradients that are parts of sums: their hooks belong to the outer run.
    if (is_end(node)) return;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      NodeOutput& output = node.outputs[i];
      Tensor& gradient = state.gradients[i];
      if (!gradient.defined()) continue;
      const Hooks hooks = output.hooks;  // a hook may remove itself
      for (const auto& [id, hook] : hooks) {
        const Tensor replacement = hook(gradient);
        if (!replacement.defined()) continue;
        if (replacement.shape() != output.shape || replacement.dtype() != output.dtype ||
            replacement.device() != output.device) {
          fail<AutogradError>(node.op(),
                              "a hook returned a gradient of shape {}, {}, {} for a tensor of shape {}, "
                              "{}, {}",
                              replacement.shape(), replacement.dtype(), replacement.device(), output.shape,
                              output.dtype, output.device);
        }
        gradient = replacement;
      }
      if (!goal_.all_leaves) continue;  // grad() leaves every tensor as it is
      if (const auto keeper = output.keeper.lock()) keeper->retained = gradient;
    }
  }

  void propagate(Node& node, std::vector<Tensor> gradients) {
    if (node.released()) {
      fail<AutogradError>(goal_.name,
                          "the graph through '{}' was already used by an earlier backward, which freed what "
                          "it had saved; pass retain_graph = true to the first one",
                          node.op());
    }
    const bool anomaly = AnomalyMode::enabled();
    std::vector<GradWanted> wanted(node.edges.size(), GradWanted::no);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      Node* input = node.edges[i].node.get();
      if (input == nullptr || !states_[input].wanted) continue;
      wanted[i] = !anomaly && goes_straight(input) ? GradWanted::in_leaf : GradWanted::yes;
    }
    BackwardContext context(node, std::move(gradients), std::move(wanted), !options_.retain_graph);
    {
      // Anomaly mode speaks of the op that the user called, not of those that its backward is made of.
      const AnomalyMode mode(anomaly && node.is_composite());
      node.backward(context);
    }
    for (std::size_t i = 0; i < node.edges.size(); ++i) {
      Tensor& gradient = context.given()[i];
      if (!gradient.defined()) continue;
      if (anomaly) detail::check_finite(node.op(), "backward", gradient);
      add_gradient(node.edges[i], gradient);
      gradient = Tensor();
    }
  }

  /// Without hooks a leaf's gradient goes straight to its buffer; with them, they see the sum of this run.
  [[nodiscard]] bool goes_straight(Node* node) const { return is_target(node) && node->outputs[0].hooks.empty(); }

  void add_gradient(const Edge& edge, const Tensor& gradient) {
    Node* node = edge.node.get();
    if (goes_straight(node)) {
      node->as_leaf()->accumulate(gradient);
      return;
    }
    Tensor& sum = states_[node].gradients[static_cast<std::size_t>(edge.index)];
    if (!sum.defined()) {
      sum = gradient;
      return;
    }
    // Not in place: the first gradient may still be held by somebody else.
    const Tensor total = empty_like(sum);
    if (total.numel() > 0) {
      run<Binary>({.fn = BinaryFn::add, .x = sum.raw(), .y = gradient.raw(), .z = total.raw()}, total.device());
    }
    sum = total;
  }

  void enqueue_if_ready(Node* node) {
    NodeState& state = states_[node];
    if (state.pending == 0 && !std::exchange(state.queued, true)) ready_.push(node);
  }

  BackwardOptions options_;
  Goal goal_;
  std::vector<Edge> roots_;
  std::vector<Tensor> root_gradients_;
  std::unordered_map<Node*, NodeState> states_;
  std::vector<Node*> order_;
  std::priority_queue<Node*, std::vector<Node*>, BySequence> ready_;
  std::vector<Tensor> captured_;
};

void add_roots(Run& run, const char* name, std::span<const Tensor> outputs, std::span<const Tensor> gradients) {
  if (!gradients.empty() && gradients.size() != outputs.size()) {
    fail<AutogradError>(name, "{} outputs were given with {} gradients", outputs.size(), gradients.size());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    run.add_root(outputs[i], gradients.empty() ? Tensor() : gradients[i]);
  }
}

}  // namespace

void backward(std::span<const Tensor> outputs, std::span<const Tensor> gradients, const BackwardOptions& options) {
  Run run(options, {.all_leaves = true});
  add_roots(run, "backward", outputs, gradients);
  run.execute();
}

std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> gradients, const BackwardOptions& options, bool allow_unused) {
  Run run(options, {.name = "grad"});
  add_roots(run, "grad", outputs, gradients);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& record = inputs[i].autograd();
    if (record == nullptr) {
      fail<AutogradError>("grad", "input {} of shape {} does not require grad", i, inputs[i].shape());
    }
    run.want({record->node, record->index}, i);
  }
  std::vector<Tensor> result = run.execute();
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (!result[i].defined() && !allow_unused) {
      fail<AutogradError>("grad",
                          "the outputs do not depend on input {} of shape {}; pass allow_unused = true if that "
                          "is expected",
                          i, inputs[i].shape());
    }
  }
  return result;
}

namespace detail {

std::vector<Tensor> backward_within(std::uint64_t first, std::span<const Tensor> outputs,
                                    std::span<const Tensor> gradients, std::span<const Edge> ends,
                                    const std::vector<GradWanted>& wanted) {
  Goal goal{.first = first};
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (wanted[i] == GradWanted::in_leaf) goal.leaves.insert(ends[i].node.get());
  }
  Run run({}, std::move(goal));
  add_roots(run, "backward", outputs, gradients);
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (wanted[i] == GradWanted::yes) run.want(ends[i], i);
  }
  std::vector<Tensor> result = run.execute();
  result.resize(ends.size());
  return result;
}

}  // namespace detail
}  // namespace trinix
