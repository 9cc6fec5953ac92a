#include <algorithm>
#include <queue>
#include <unordered_map>

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
  bool wanted = true;  ///< an input asked for lies on a path from here
  bool queued = false;
  std::vector<Tensor> gradients;                      ///< sums so far, by output
  std::vector<std::pair<int, std::size_t>> captures;  ///< (output, position among the inputs asked for)
};

class Run {
 public:
  Run(const BackwardOptions& options, bool into_leaves) : options_(options), into_leaves_(into_leaves) {}

  void add_root(const Tensor& output, Tensor gradient) {
    const auto& record = output.autograd();
    if (record == nullptr) {
      fail<AutogradError>("backward",
                          "the tensor of shape {} does not require grad and was not computed from one that "
                          "does, so there is nothing to differentiate",
                          output.shape());
    }
    if (!gradient.defined()) {
      if (output.numel() != 1) {
        fail<AutogradError>("backward",
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

  void want(const Tensor& input, std::size_t position) {
    const auto& record = input.autograd();
    if (record == nullptr) {
      fail<AutogradError>("grad", "input {} of shape {} does not require grad", position, input.shape());
    }
    states_[record->node.get()].captures.emplace_back(record->index, position);
  }

  /// Returns the captured gradients.
  std::vector<Tensor> execute(std::size_t captures) {
    captured_.resize(captures);
    discover();
    if (!into_leaves_) mark_wanted();
    for (std::size_t i = 0; i < roots_.size(); ++i) add_gradient(roots_[i], root_gradients_[i]);
    for (const Edge& root : roots_) enqueue_if_ready(root.node.get());
    const NoGrad no_grad;
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

  static void check_fits(const Tensor& output, const Tensor& gradient) {
    if (gradient.shape() != output.shape()) {
      fail<ShapeError>("backward", "the gradient has shape {}, its tensor {}; they must be equal", gradient.shape(),
                       output.shape());
    }
    if (gradient.dtype() != output.dtype()) {
      fail<DtypeError>("backward", "the gradient is {}, its tensor {}; they must be equal", gradient.dtype(),
                       output.dtype());
    }
    if (gradient.device() != output.device()) {
      fail<DeviceError>("backward", "the gradient is on {}, its tensor on {}; they must be on one device",
                        gradient.device(), output.device());
    }
  }

  /// Finds every node below the roots and counts the edges into each.
  void discover() {
    std::vector<Node*> stack;
    const auto reach = [&](Node* node) {
      NodeState& state = states_[node];
      if (state.gradients.empty()) {  // first time here
        state.gradients.resize(node->outputs.size());
        order_.push_back(node);
        stack.push_back(node);
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
    std::sort(order_.begin(), order_.end(), [](const Node* a, const Node* b) { return a->sequence() < b->sequence(); });
    for (Node* node : order_) {
      NodeState& state = states_[node];
      state.wanted =
          !state.captures.empty() || std::any_of(node->edges.begin(), node->edges.end(), [&](const Edge& edge) {
            return edge.node != nullptr && states_[edge.node.get()].wanted;
          });
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
      const bool is_leaf = dynamic_cast<LeafNode*>(&node) != nullptr;
      if (!is_leaf || into_leaves_) propagate(node, std::move(state.gradients));
    }
    for (const Edge& edge : node.edges) {
      if (edge.node == nullptr) continue;
      --states_[edge.node.get()].pending;
      enqueue_if_ready(edge.node.get());
    }
    if (!options_.retain_graph && reached) node.release();
  }

  static void run_hooks(Node& node, NodeState& state) {
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      NodeOutput& output = node.outputs[i];
      Tensor& gradient = state.gradients[i];
      if (!gradient.defined()) continue;
      const Hooks hooks = output.hooks;  // a hook may remove itself
      for (const auto& [id, hook] : hooks) {
        const Tensor replacement = hook(gradient);
        if (!replacement.defined()) continue;
        if (replacement.shape() != output.shape || replacement.dtype() != output.dtype) {
          fail<AutogradError>(node.op(), "a hook returned a gradient of shape {}, {} for a tensor of shape {}, {}",
                              replacement.shape(), replacement.dtype(), output.shape, output.dtype);
        }
        gradient = replacement;
      }
      if (const auto keeper = output.keeper.lock()) keeper->retained = gradient;
    }
  }

  void propagate(Node& node, std::vector<Tensor> gradients) {
    if (node.released()) {
      fail<AutogradError>("backward",
                          "the graph through '{}' was already used by an earlier backward, which freed what "
                          "it had saved; pass retain_graph = true to the first one",
                          node.op());
    }
    std::vector<bool> needed(node.edges.size());
    for (std::size_t i = 0; i < needed.size(); ++i) {
      needed[i] = node.edges[i].node != nullptr && states_[node.edges[i].node.get()].wanted;
    }
    BackwardContext context(node, std::move(gradients), std::move(needed), into_leaves_);
    node.backward(context);
    for (std::size_t i = 0; i < node.edges.size(); ++i) {
      Tensor& gradient = context.given()[i];
      if (!gradient.defined()) continue;
      add_gradient(node.edges[i], gradient);
      gradient = Tensor();
    }
  }

  void add_gradient(const Edge& edge, const Tensor& gradient) {
    Node& node = *edge.node;
    auto* leaf = dynamic_cast<LeafNode*>(&node);
    // Without hooks a leaf's gradient goes straight to its buffer; with them, they see the sum of this run.
    if (leaf != nullptr && into_leaves_ && node.outputs[0].hooks.empty()) {
      leaf->accumulate(gradient);
      return;
    }
    Tensor& sum = states_[&node].gradients[static_cast<std::size_t>(edge.index)];
    if (!sum.defined()) {
      sum = gradient;
      return;
    }
    // Not in place: the first gradient may still be held by somebody else.
    const Tensor total = empty_like(sum);
    run<Binary>({.fn = BinaryFn::add, .x = sum.raw(), .y = gradient.raw(), .z = total.raw()}, total.device());
    sum = total;
  }

  void enqueue_if_ready(Node* node) {
    NodeState& state = states_[node];
    if (state.pending == 0 && !std::exchange(state.queued, true)) ready_.push(node);
  }

  BackwardOptions options_;
  bool into_leaves_;
  std::vector<Edge> roots_;
  std::vector<Tensor> root_gradients_;
  std::unordered_map<Node*, NodeState> states_;
  std::vector<Node*> order_;
  std::priority_queue<Node*, std::vector<Node*>, BySequence> ready_;
  std::vector<Tensor> captured_;
};

void add_roots(Run& run, std::span<const Tensor> outputs, std::span<const Tensor> gradients) {
  if (!gradients.empty() && gradients.size() != outputs.size()) {
    fail<AutogradError>("backward", "{} outputs were given with {} gradients", outputs.size(), gradients.size());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    run.add_root(outputs[i], gradients.empty() ? Tensor() : gradients[i]);
  }
}

}  // namespace

void backward(std::span<const Tensor> outputs, std::span<const Tensor> gradients, const BackwardOptions& options) {
  Run run(options, /*into_leaves=*/true);
  add_roots(run, outputs, gradients);
  run.execute(0);
}

std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> gradients, const BackwardOptions& options, bool allow_unused) {
  Run run(options, /*into_leaves=*/false);
  add_roots(run, outputs, gradients);
  for (std::size_t i = 0; i < inputs.size(); ++i) run.want(inputs[i], i);
  std::vector<Tensor> result = run.execute(inputs.size());
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

}  // namespace trinix
