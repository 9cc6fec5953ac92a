#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <trinix/backends/cpu/parallel.h>

/// @file
/// Shares out a list of arrays of very different lengths: by elements, so that ten thousand small tensors and one large
/// one keep all threads equally busy.

namespace trinix::cpu {

/// Elements of one piece: what a thread works on at a time. 16 K floats of four arrays stay within the second-level
/// cache, and a piece is long enough for its overhead not to show.
inline constexpr std::int64_t kPiece = 16384;

/// The pieces of a list of arrays, numbered through: array by array, front to back.
class Pieces {
 public:
  /// `length(i)` is the number of elements of array i.
  template <class Length>
  Pieces(std::size_t arrays, Length&& length) : first_piece_(arrays + 1, 0), first_element_(arrays + 1, 0) {
    for (std::size_t i = 0; i < arrays; ++i) {
      const std::int64_t n = length(i);
      first_piece_[i + 1] = first_piece_[i] + (n + kPiece - 1) / kPiece;
      first_element_[i + 1] = first_element_[i] + n;
    }
  }

  [[nodiscard]] std::int64_t count() const { return first_piece_.back(); }

  /// Calls f(piece, array, begin, end) for every piece, in parallel when there is enough work at `cost` per element.
  /// f must not throw.
  template <class F>
  void for_each(std::int64_t cost, F&& f) const {
    const std::int64_t elements = first_element_.back();
    const int threads = threads_for(elements, std::max<std::int64_t>(kGrain / cost, 1));
    team(threads, [&](int thread, int count) {
      std::int64_t piece = piece_at(elements * thread / count);
      const std::int64_t last = piece_at(elements * (thread + 1) / count);
      std::size_t array = array_of(first_piece_, piece);
      for (; piece < last; ++piece) {
        while (piece >= first_piece_[array + 1]) ++array;
        const std::int64_t begin = (piece - first_piece_[array]) * kPiece;
        const std::int64_t length = first_element_[array + 1] - first_element_[array];
        f(piece, array, begin, std::min(begin + kPiece, length));
      }
    });
  }

 private:
  /// The last array that begins at or before `place`.
  static std::size_t array_of(const std::vector<std::int64_t>& first, std::int64_t place) {
    return static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), place) - first.begin() - 1);
  }

  /// The first piece that begins at or behind `element`, counted over all arrays laid end to end.
  [[nodiscard]] std::int64_t piece_at(std::int64_t element) const {
    const std::size_t array = array_of(first_element_, element);
    return first_piece_[array] + (element - first_element_[array] + kPiece - 1) / kPiece;
  }

  std::vector<std::int64_t> first_piece_;    // of each array, and the number of all
  std::vector<std::int64_t> first_element_;  // likewise
};

}  // namespace trinix::cpu
