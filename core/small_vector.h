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
  void push_back(T value) {
    if (size_ < kFew) {
      few_[size_] = std::move(value);
    } else {
      if (size_ == kFew) {
        for (T& element : few_) many_.push_back(std::move(element));
      }
      many_.push_back(std::move(value));
    }
    ++size_;
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] T* begin() { return size_ <= kFew ? few_.data() : many_.data(); }
  [[nodiscard]] T* end() { return begin() + size_; }
  [[nodiscard]] const T* begin() const { return size_ <= kFew ? few_.data() : many_.data(); }
  [[nodiscard]] const T* end() const { return begin() + size_; }
  T& operator[](std::size_t i) { return begin()[i]; }
  const T& operator[](std::size_t i) const { return begin()[i]; }

 private:
  std::array<T, kFew> few_{};
  std::vector<T> many_;
  std::size_t size_ = 0;
};

}  // namespace trinix::detail
