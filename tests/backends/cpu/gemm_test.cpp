#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <vector>

#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/error.h>

namespace trinix::cpu {
namespace {

double read(const void* data, DType t, std::int64_t i) {
  switch (t) {
    case DType::f64:
      return static_cast<const double*>(data)[i];
    case DType::f32:
      return static_cast<const float*>(data)[i];
    case DType::bf16:
      return static_cast<const bfloat16*>(data)[i];
    default:
      return static_cast<const float16*>(data)[i];
  }
}

void write(void* data, DType t, std::int64_t i, double value) {
  switch (t) {
    case DType::f64:
      static_cast<double*>(data)[i] = value;
      break;
    case DType::f32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      break;
    case DType::bf16:
      static_cast<bfloat16*>(data)[i] = bfloat16(static_cast<float>(value));
      break;
    default:
      static_cast<float16*>(data)[i] = float16(static_cast<float>(value));
      break;
  }
}

enum class Layout { rows, columns, padded_rows, padded_columns, scattered, one_row_repeated, one_column_repeated };

/// A matrix inside a larger buffer whose other elements are NaN: whatever reads or writes them is found out.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t cols, DType dtype, Layout layout, unsigned seed)
      : rows_(rows), cols_(cols), dtype_(dtype) {
    switch (layout) {
      case Layout::rows:
        row_ = cols, col_ = 1;
        break;
      case Layout::columns:
        row_ = 1, col_ = rows;
        break;
      case Layout::padded_rows:
        row_ = cols + 5, col_ = 1;
        break;
      case Layout::padded_columns:
        row_ = 1, col_ = rows + 3;
        break;
      case Layout::scattered:
        row_ = 3 * cols + 1, col_ = 3;
        break;
      case Layout::one_row_repeated:
        row_ = 0, col_ = 1;
        break;
      case Layout::one_column_repeated:
        row_ = 1, col_ = 0;
        break;
    }
    size_ = rows > 0 && cols > 0 ? (rows - 1) * row_ + (cols - 1) * col_ + 1 : 1;
    bytes_.resize(static_cast<std::size_t>(size_) * size_of(dtype));
    for (std::int64_t i = 0; i < size_; ++i) write(bytes_.data(), dtype, i, std::nan(""));
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < cols; ++j) write(bytes_.data(), dtype, at(i, j), uniform(random));
    }
  }

  [[nodiscard]] std::int64_t at(std::int64_t i, std::int64_t j) const { return i * row_ + j * col_; }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t j) const {
    return read(bytes_.data(), dtype_, at(i, j));
  }
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t cols() const { return cols_; }
  [[nodiscard]] const std::vector<char>& bytes() const { return bytes_; }
  [[nodiscard]] GemmMatrix operand() const { return {bytes_.data(), dtype_, row_, col_}; }
  [[nodiscard]] GemmResult result() { return {bytes_.data(), dtype_, row_, col_}; }
  /// How many elements between those of the matrix no longer are NaN.
  [[nodiscard]] std::int64_t spoiled() const {
    std::vector<bool> inside(static_cast<std::size_t>(size_));
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < cols_; ++j) inside[static_cast<std::size_t>(at(i, j))] = true;
    }
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < size_; ++i) {
      count += !inside[static_cast<std::size_t>(i)] && !std::isnan(read(bytes_.data(), dtype_, i));
    }
    return count;
  }

 private:
  std::int64_t rows_, cols_, row_ = 0, col_ = 0, size_ = 0;
  DType dtype_;
  std::vector<char> bytes_;
};

struct Case {
  std::int64_t m = 1, n = 1, k = 1;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  Layout a_layout = Layout::rows, b_layout = Layout::rows, c_layout = Layout::rows;
  double alpha = 1;
  bool accumulate = false;
  bool bias = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "m=" << c.m << " n=" << c.n << " k=" << c.k << " dtypes " << name(c.a) << ' ' << name(c.b) << ' '
             << name(c.c) << " layouts " << static_cast<int>(c.a_layout) << ' ' << static_cast<int>(c.b_layout) << ' '
             << static_cast<int>(c.c_layout) << " alpha=" << c.alpha << " accumulate=" << c.accumulate
             << " bias=" << c.bias;
}

/// Operands, result and what the result must become, in f64.
struct Product {
  explicit Product(const Case& c)
      : a(c.m, c.k, c.a, c.a_layout, 1),
        b(c.k, c.n, c.b, c.b_layout, 2),
        c(c.m, c.n, c.c, c.c_layout, 3),
        bias(1, c.n, c.c, Layout::rows, 4) {
    args = {.m = c.m,
            .n = c.n,
            .k = c.k,
            .a = a.operand(),
            .b = b.operand(),
            .packed_b = {},
            .c = this->c.result(),
            .alpha = c.alpha,
            .accumulate = c.accumulate,
            .bias = c.bias ? bias.operand().data : nullptr};
    std::vector<double> left(static_cast<std::size_t>(c.m * c.k)), right(static_cast<std::size_t>(c.k * c.n));
    for (std::int64_t i = 0; i < c.m; ++i) {
      for (std::int64_t p = 0; p < c.k; ++p) left[static_cast<std::size_t>(i * c.k + p)] = a(i, p);
    }
    for (std::int64_t p = 0; p < c.k; ++p) {
      for (std::int64_t j = 0; j < c.n; ++j) right[static_cast<std::size_t>(p * c.n + j)] = b(p, j);
    }
    expected.assign(static_cast<std::size_t>(c.m * c.n), 0);
    for (std::int64_t i = 0; i < c.m; ++i) {
      double* row = expected.data() + i * c.n;
      for (std::int64_t p = 0; p < c.k; ++p) {
        const double x = c.alpha * left[static_cast<std::size_t>(i * c.k + p)];
        const double* from = right.data() + p * c.n;
        for (std::int64_t j = 0; j < c.n; ++j) row[j] += x * from[j];
      }
      for (std::int64_t j = 0; j < c.n; ++j) {
        const double more[] = {c.bias ? bias(0, j) : 0, c.accumulate ? this->c(i, j) : 0};
        row[j] += more[0] + more[1];
        squares += more[0] * more[0] + more[1] * more[1];
      }
    }
    // The squares of the terms of all sums: step by step of the depth, that of all pairs of a column and a row.
    for (std::int64_t p = 0; p < c.k; ++p) {
      double column = 0, row = 0;
      for (std::int64_t i = 0; i < c.m; ++i) column += std::pow(left[static_cast<std::size_t>(i * c.k + p)], 2);
      for (std::int64_t j = 0; j < c.n; ++j) row += std::pow(right[static_cast<std::size_t>(p * c.n + j)], 2);
      squares += c.alpha * c.alpha * column * row;
    }
  }

  /// Frobenius norm of the error over that of the result, or over the norm that the result has when the signs of its
  /// terms are random, should they cancel to less.
  [[nodiscard]] double error() const {
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < c.rows(); ++i) {
      for (std::int64_t j = 0; j < c.cols(); ++j) {
        const double e = expected[static_cast<std::size_t>(i * c.cols() + j)];
        difference += (c(i, j) - e) * (c(i, j) - e);
        norm += e * e;
      }
    }
    norm = std::max(norm, squares);
    return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  }

  Matrix a, b, c, bias;
  GemmArgs args;
  std::vector<double> expected;
  double squares = 0;
};

/// f32 sums; 16-bit results are those sums, rounded once (unit roundoff 2^-8 of bf16, 2^-11 of f16).
double tolerance(DType c) {
  switch (c) {
    case DType::f64:
      return 1e-14;
    case DType::f32:
      return 1e-6;
    case DType::bf16:
      return 1.0 / 256 + 1e-6;
    default:
      return 1.0 / 2048 + 1e-6;
  }
}

template <class F>
void expect_right(const Case& c, F&& multiply) {
  // Sums of equal terms: their rounding errors all point one way, which is no fault of the product.
  if (c.a_layout == Layout::one_column_repeated && c.b_layout == Layout::one_row_repeated) return;
  Product product(c);
  multiply(product.args);
  const double error = product.error();
  ASSERT_TRUE(error <= tolerance(c.c)) << c << ": relative error " << error;
  ASSERT_EQ(product.c.spoiled(), 0) << c;
}

void expect_right(const Case& c) {
  expect_right(c, [](const GemmArgs& args) { gemm(args); });
}

constexpr Layout kDense[] = {Layout::rows, Layout::columns};
constexpr Layout kAll[] = {
    Layout::rows,      Layout::columns,          Layout::padded_rows,        Layout::padded_columns,
    Layout::scattered, Layout::one_row_repeated, Layout::one_column_repeated};
constexpr DType kSmallTypes[] = {DType::f32, DType::bf16, DType::f16};

class Threads {
 public:
  explicit Threads(int count) { set_num_threads(count); }
  ~Threads() { set_num_threads(0); }
};

TEST(Gemm, EverySizeAroundTheTiles) {
  for (const std::int64_t m : {1, 2, 3, 5, 6, 7, 13, 14, 15, 29, 32}) {
    for (const std::int64_t n : {1, 2, 8, 9, 15, 16, 17, 31, 32, 33, 65}) {
      for (const std::int64_t k : {1, 2, 15, 16, 17, 33, 70}) {
        for (const Layout a : kDense) {
          for (const Layout b : kDense) expect_right({.m = m, .n = n, .k = k, .a_layout = a, .b_layout = b});
        }
      }
    }
  }
}

TEST(Gemm, EveryLayout) {
  struct Size {
    std::int64_t m, n, k;
  };
  for (const Size s : {Size{1, 70, 50}, {3, 300, 40}, {70, 3, 50}, {37, 41, 29}, {130, 100, 90}}) {
    for (const Layout a : kAll) {
      for (const Layout b : kAll) {
        for (const Layout c :
             {Layout::rows, Layout::columns, Layout::padded_rows, Layout::padded_columns, Layout::scattered}) {
          for (const bool extras : {false, true}) {
            expect_right({.m = s.m,
                          .n = s.n,
                          .k = s.k,
                          .a_layout = a,
                          .b_layout = b,
                          .c_layout = c,
                          .alpha = extras ? -0.5 : 1.0,
                          .accumulate = extras,
                          .bias = extras});
          }
        }
      }
    }
  }
}

TEST(Gemm, EveryMixOfStorageTypes) {
  struct Size {
    std::int64_t m, n, k;
  };
  for (const DType a : kSmallTypes) {
    for (const DType b : kSmallTypes) {
      for (const DType c : kSmallTypes) {
        for (const Size s : {Size{1, 77, 130}, {4, 33, 70}, {12, 90, 50}, {61, 47, 900}}) {
          for (const Layout layout : {Layout::rows, Layout::columns, Layout::scattered}) {
            expect_right(
                {.m = s.m, .n = s.n, .k = s.k, .a = a, .b = b, .c = c, .a_layout = layout, .b_layout = layout});
            expect_right({.m = s.m,
                          .n = s.n,
                          .k = s.k,
                          .a = a,
                          .b = b,
                          .c = c,
                          .a_layout = layout,
                          .b_layout = layout,
                          .alpha = 0.25,
                          .accumulate = true,
                          .bias = true});
          }
        }
      }
    }
  }
}

TEST(Gemm, Doubles) {
  for (const std::int64_t m : {1, 5, 14, 33, 150}) {
    for (const std::int64_t n : {1, 7, 16, 17, 90}) {
      for (const std::int64_t k : {1, 9, 300}) {
        for (const Layout a : kAll) {
          expect_right({.m = m,
                        .n = n,
                        .k = k,
                        .a = DType::f64,
                        .b = DType::f64,
                        .c = DType::f64,
                        .a_layout = a,
                        .b_layout = a == Layout::rows ? Layout::columns : Layout::rows,
                        .alpha = 3,
                        .bias = true});
        }
      }
    }
  }
}

TEST(Gemm, EpilogueOptionsAtEverySize) {
  for (const std::int64_t m : {1, 4, 15, 100}) {
    for (const std::int64_t n : {1, 16, 31, 33, 200}) {
      for (const std::int64_t k : {3, 64, 1000}) {
        for (const double alpha : {1.0, 0.125, -2.0}) {
          for (const bool accumulate : {false, true}) {
            for (const bool bias : {false, true}) {
              expect_right({.m = m,
                            .n = n,
                            .k = k,
                            .c_layout = Layout::padded_rows,
                            .alpha = alpha,
                            .accumulate = accumulate,
                            .bias = bias});
            }
          }
        }
      }
    }
  }
}

// Several blocks and phases of the depth, several panels of columns, bands of rows of a wide result.
TEST(Gemm, SizesBeyondOneBlock) {
  for (const int threads : {1, 3}) {
    const Threads scope(threads);
    for (const DType c : kSmallTypes) {
      expect_right({.m = 257, .n = 257, .k = 257, .c = c});
      expect_right({.m = 61, .n = 45, .k = 9001, .c = c, .b_layout = Layout::columns});
      expect_right({.m = 97, .n = 700, .k = 4500, .c = c, .alpha = 0.5, .accumulate = true, .bias = true});
      expect_right({.m = 4500, .n = 35, .k = 450, .c = c, .a_layout = Layout::columns});
      expect_right({.m = 20, .n = 3001, .k = 600, .c = c});
    }
  }
}

TEST(Gemm, EmptySumLeavesBiasOrZeroOrC) {
  for (const DType c : kSmallTypes) {
    for (const bool accumulate : {false, true}) {
      for (const bool bias : {false, true}) {
        for (const Layout layout : {Layout::rows, Layout::scattered}) {
          expect_right({.m = 7, .n = 300, .k = 0, .c = c, .c_layout = layout, .accumulate = accumulate, .bias = bias});
          expect_right({.m = 30, .n = 2, .k = 0, .c = c, .c_layout = layout, .accumulate = accumulate, .bias = bias});
        }
      }
    }
  }
  gemm({.m = 0, .n = 4, .k = 4});
  gemm({.m = 4, .n = 0, .k = 4});
}

TEST(Gemm, ResultIsNotReadUnlessAccumulating) {
  for (const std::int64_t m : {1, 20, 100}) {
    Product product({.m = m, .n = 50, .k = 800});
    float* c = static_cast<float*>(product.args.c.data);
    std::fill(c, c + m * 50, std::numeric_limits<float>::quiet_NaN());
    gemm(product.args);
    EXPECT_LE(product.error(), 1e-6);
  }
}

TEST(Gemm, NotANumberStaysInItsRow) {
  Product product({.m = 40, .n = 70, .k = 33});
  static_cast<float*>(const_cast<void*>(product.args.a.data))[5 * 33 + 7] = std::numeric_limits<float>::infinity();
  gemm(product.args);
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t j = 0; j < 70; ++j) EXPECT_EQ(std::isfinite(product.c(i, j)), i != 5) << i << ' ' << j;
  }
}

TEST(Gemm, SameBitsForAnyNumberOfThreads) {
  for (const Case& c : {Case{.m = 300, .n = 260, .k = 900}, Case{.m = 1, .n = 3000, .k = 300},
                        Case{.m = 3, .n = 1000, .k = 1000, .b_layout = Layout::columns},
                        Case{.m = 40, .n = 999, .k = 500, .alpha = 0.3, .accumulate = true, .bias = true},
                        Case{.m = 700, .n = 100, .k = 1000, .c = DType::bf16}}) {
    std::vector<char> one;
    for (const int threads : {1, 2, 3, 7}) {
      const Threads scope(threads);
      Product product(c);
      gemm(product.args);
      if (threads == 1) one = product.c.bytes();
      EXPECT_TRUE(product.c.bytes() == one) << c << " with " << threads << " threads";
    }
  }
}

TEST(Gemm, SerialWithWorkspaceInsideATeam) {
  const Case c{.m = 65, .n = 130, .k = 700, .c = DType::bf16, .bias = true};
  std::vector<Product> products(4, Product(c));
  for (Product& p : products) {
    // The copies own their memory; the arguments still name the first one's.
    p.args.a = p.a.operand(), p.args.b = p.b.operand(), p.args.c = p.c.result(), p.args.bias = p.bias.operand().data;
  }
  const std::size_t bytes = gemm_workspace_bytes(products[0].args);
  ASSERT_GT(bytes, 0U);
  team(4, [&](int t, int threads) {
    void* workspace = ::operator new (bytes, std::align_val_t{64});
    for (int i = t; i < 4; i += threads) gemm_serial(products[static_cast<std::size_t>(i)].args, workspace);
    ::operator delete (workspace, std::align_val_t{64});
  });
  for (const Product& p : products) EXPECT_LE(p.error(), tolerance(DType::bf16));
}

TEST(Gemm, PackedOperandAndBlocksOfIt) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const DType wide = compute_type(dtype);
    for (const Layout layout : {Layout::rows, Layout::columns, Layout::scattered}) {
      const std::int64_t k = 200, n = 150;
      const Matrix b(k, n, dtype, layout, 5);
      void* buffer = ::operator new (packed_b_bytes(k, n, dtype), std::align_val_t{64});
      const PackedMatrix packed = pack_b(k, n, b.operand(), buffer);
      struct Block {
        std::int64_t row, rows, col, cols;
      };
      const std::int64_t width = packed.panel_width;
      for (const Block s : {Block{0, k, 0, n}, {0, k, width, n - width}, {33, 100, 0, n}, {64, 50, 2 * width, width}}) {
        for (const std::int64_t m : {1, 20, 100}) {
          const Matrix a(m, s.rows, wide, Layout::rows, 6);
          Matrix c(m, s.cols, wide, Layout::padded_rows, 7);
          gemm({.m = m,
                .n = s.cols,
                .k = s.rows,
                .a = a.operand(),
                .b = {},
                .packed_b = packed.block(s.row, s.rows, s.col, s.cols),
                .c = c.result()});
          double difference = 0, norm = 0;
          for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < s.cols; ++j) {
              double sum = 0;
              for (std::int64_t p = 0; p < s.rows; ++p) sum += a(i, p) * b(s.row + p, s.col + j);
              difference += (c(i, j) - sum) * (c(i, j) - sum);
              norm += sum * sum;
            }
          }
          EXPECT_LE(std::sqrt(difference / norm), tolerance(wide)) << name(dtype) << " m=" << m << " at " << s.row;
          EXPECT_EQ(c.spoiled(), 0);
        }
      }
      ::operator delete (buffer, std::align_val_t{64});
    }
  }
}

template <class F>
void expect_batch(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t count, DType dtype, bool shared_b,
                  F&& multiply) {
  // Batches are matrices stacked along the rows.
  const Matrix a(count * m, k, dtype, Layout::rows, 8);
  const Matrix b(shared_b ? k : count * k, n, dtype, Layout::rows, 9);
  Matrix c(count * m, n, dtype, Layout::rows, 10);
  const GemmArgs first{.m = m, .n = n, .k = k, .a = a.operand(), .b = b.operand(), .packed_b = {}, .c = c.result()};
  multiply(first, GemmBatchStrides{m * k, shared_b ? 0 : k * n, m * n});
  double difference = 0, norm = 0;
  for (std::int64_t i = 0; i < count * m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < k; ++p) sum += a(i, p) * b((shared_b ? 0 : i / m * k) + p, j);
      difference += (c(i, j) - sum) * (c(i, j) - sum);
      norm += sum * sum;
    }
  }
  EXPECT_LE(std::sqrt(difference / norm), tolerance(dtype)) << m << 'x' << n << 'x' << k << " times " << count;
}

TEST(Gemm, Batches) {
  for (const int threads : {1, 2, 3}) {
    const Threads scope(threads);
    for (const bool shared_b : {false, true}) {
      for (const std::int64_t count : {1, 2, 7, 40}) {
        expect_batch(33, 20, 50, count, DType::f32, shared_b,
                     [&](const GemmArgs& args, const GemmBatchStrides& s) { gemm_batched(args, count, s); });
        expect_batch(64, 64, 65, count, DType::bf16, shared_b,
                     [&](const GemmArgs& args, const GemmBatchStrides& s) { gemm_batched(args, count, s); });
        for (const DType t : {DType::f32, DType::f64}) {
          expect_batch(40, 30, 20, count, t, shared_b,
                       [&](const GemmArgs& args, const GemmBatchStrides& s) { gemm_eigen_batched(args, count, s); });
        }
      }
    }
    expect_batch(400, 300, 600, 2, DType::f32, false,
                 [&](const GemmArgs& args, const GemmBatchStrides& s) { gemm_batched(args, 2, s); });
  }
}

TEST(GemmEigen, AgreesWithTheReference) {
  for (const int threads : {1, 3}) {
    const Threads scope(threads);
    for (const DType t : {DType::f32, DType::f64}) {
      for (const Layout a : kAll) {
        for (const Layout b : kAll) {
          // Each operand is brought to one form by itself: one of the two keeps to rows or shares the other's layout.
          if (a != b && a != Layout::rows && b != Layout::rows) continue;
          for (const Layout c : {Layout::rows, Layout::columns, Layout::padded_rows, Layout::scattered}) {
            for (const bool extras : {false, true}) {
              expect_right({.m = 97,
                            .n = 64,
                            .k = 90,
                            .a = t,
                            .b = t,
                            .c = t,
                            .a_layout = a,
                            .b_layout = b,
                            .c_layout = c,
                            .alpha = extras ? 0.5 : 1.0,
                            .accumulate = extras,
                            .bias = extras},
                           [](const GemmArgs& args) { gemm_eigen(args); });
              expect_right({.m = 9,
                            .n = 200,
                            .k = extras ? 400 : 0,
                            .a = t,
                            .b = t,
                            .c = t,
                            .a_layout = a,
                            .b_layout = b,
                            .c_layout = c,
                            .accumulate = extras,
                            .bias = true},
                           [](const GemmArgs& args) { gemm_eigen(args); });
            }
          }
        }
      }
    }
  }
}

template <class E, class F>
void expect_text(F&& call, const std::string& text) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown; expected: " << text;
  } catch (const E& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(Gemm, Errors) {
  Product p({.m = 4, .n = 4, .k = 4});
  GemmArgs args = p.args;
  args.a.dtype = DType::f64;
  expect_text<DtypeError>([&] { gemm(args); }, "[gemm] a product of f64 by f32 into f32");
  expect_text<DtypeError>([&] { gemm_serial(args); }, "[gemm] a product of f64 by f32 into f32");
  expect_text<DtypeError>([&] { gemm_eigen(args); }, "[gemm_eigen] a product of f64 by f32 into f32");
  args.a.dtype = DType::i32;
  expect_text<DtypeError>([&] { gemm_batched(args, 3, {}); }, "a product of i32 by f32 into f32");
  expect_text<DtypeError>([&] { (void)packed_b_bytes(3, 3, DType::u8); }, "[pack_b] u8");
  args = p.args;
  std::vector<float> buffer(packed_b_bytes(4, 4, DType::f32) / sizeof(float));
  args.packed_b = pack_b(4, 4, args.b, buffer.data());
  args.k = 3;
  expect_text<ShapeError>([&] { gemm(args); }, "the packed operand is (4, 4) where (3, 4) is needed");
  expect_text<ConfigError>([&] { gemm_eigen(args); }, "[gemm_eigen] a packed operand of (4, 4)");
}

}  // namespace
}  // namespace trinix::cpu
