#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Tensors by name: what a module or an optimizer hands to a checkpoint and takes back.

namespace trinix {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// An ordered map from name to tensor. It holds handles, not copies: a state dict of a model that goes on training
/// changes with it; clone() the tensors to keep a moment.
class StateDict {
 public:
  StateDict() = default;
  /// @throws ConfigError for a name given twice.
  StateDict(std::initializer_list<NamedTensor> entries);

  /// Appends. @throws ConfigError for an empty name, a name that is taken, or an undefined tensor.
  void insert(std::string name, Tensor tensor);
  /// The tensor of that name, or null.
  [[nodiscard]] const Tensor* find(std::string_view name) const;
  [[nodiscard]] bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// @throws ConfigError naming the missing key.
  [[nodiscard]] const Tensor& at(std::string_view name) const;

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] auto begin() const { return entries_.begin(); }
  [[nodiscard]] auto end() const { return entries_.end(); }

  /// The same names with detached copies of the tensors.
  [[nodiscard]] StateDict clone() const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  std::vector<NamedTensor> entries_;
  std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>> places_;
};

}  // namespace trinix
