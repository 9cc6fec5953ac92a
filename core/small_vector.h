#pragma once

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

/// @file
/// A list that is nearly always short.

namespace trinix::detail {

/// Up to kFew elements lie in the object itself, so that a short list costs no allocation; more move to a vector.
template <class T, std::size_t kFew>
class SmallVector {
 public:
  void push_back(T value) { add() = std::move(value); }

  /// A new element at the end, as its default constructor makes it.
  T& add() {
    if (size_ < kFew) return few_[size_++];
    return add_to_many();
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] T* begin() { return size_ <= kFew ? few_.data() : many_.data(); }
  [[nodiscard]] T* end() { return begin() + size_; }
  [[nodiscard]] const T* begin() const { return size_ <= kFew ? few_.data() : many_.data(); }
  [[nodiscard]] const T* end() const { return begin() + size_; }
  T& operator[](std::size_t i) { return begin()[i]; }
  const T& operator[](std::size_t i) const { return begin()[i]; }

 private:
  T& add_to_many() {
    if (size_ == kFew) {
      for (T& element : few_) many_.push_back(std::move(element));
    }
    ++size_;
    return many_.emplace_back();
  }

  std::array<T, kFew> few_{};
  std::vector<T> many_;
  std::size_t size_ = 0;
};

}  // namespace trinix::detail
