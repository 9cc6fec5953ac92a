#include "naive.h"

#include <algorithm>
#include <gtest/gtest.h>

#include <trinix/autograd/gradcheck.h>
#include <trinix/core/threads.h>

namespace trinix::testing {
namespace {

using Index = std::vector<std::int64_t>;

/// Deterministic indices in [0, size), with repeats.
Index some_indices(std::int64_t count, std::int64_t size) {
  Index index(static_cast<std::size_t>(count));
  const auto u = random_values(index.size(), 5, 0, 1);
  std::transform(u.begin(), u.end(), index.begin(),
                 [size](double v) { return static_cast<std::int64_t>(v * static_cast<double>(size)); });
  return index;
}

Array naive_gather(const Array& x, int dim, const Shape& shape, const Index& index) {
  Array out = zero_array(shape);
  for_each_index(shape, [&](const Dims& at) {
    Dims from = at;
    from[dim] = index[flat(shape, at)];
    out[flat(shape, at)] = x[flat(x.shape, from)];
  });
  return out;
}

Array naive_scatter_add(const Array& x, int dim, const Index& index, const Array& source) {
  Array out = x;
  for_each_index(source.shape, [&](const Dims& at) {
    Dims to = at;
    to[dim] = index[flat(source.shape, at)];
    out[flat(x.shape, to)] += source[flat(source.shape, at)];
  });
  return out;
}

/// Repeats a list of slice numbers over the other dims, which turns index_select into gather.
Index spread(const Shape& shape, int dim, const Index& index) {
  Index result(static_cast<std::size_t>(numel(shape)));
  for_each_index(shape, [&](const Dims& at) { result[flat(shape, at)] = index[static_cast<std::size_t>(at[dim])]; });
  return result;
}

std::vector<OpCase> indexing_cases() {
  std::vector<OpCase> list;
  const Shape shape = {5, 6, 7};
  for (int dim = 0; dim < 3; ++dim) {
    const std::string suffix = std::to_string(dim);
    Shape picked = {4, 5, 6};
    picked[dim] = 9;
    const Index index = some_indices(numel(picked), shape[dim]);
    list.push_back(
        {.name = "gather" + suffix,
         .inputs = {shape},
         .function = [=](const auto& x,
                         KernelChoice) { return gather(x[0], dim, from_vector(index, picked).to(x[0].device())); },
         .reference = [=](const auto& in) { return naive_gather(in[0], dim, picked, index); }});
    list.push_back({.name = "scatter_add" + suffix,
                    .inputs = {shape, picked},
                    .function =
                        [=](const auto& x, KernelChoice) {
                          return scatter_add(x[0], dim - 3, from_vector(index, picked).to(x[0].device()), x[1]);
                        },
                    .reference = [=](const auto& in) { return naive_scatter_add(in[0], dim, index, in[1]); }});
    Shape slices = shape;
    slices[dim] = 11;
    const Index chosen = some_indices(11, shape[dim]);
    list.push_back(
        {.name = "index_select" + suffix,
         .inputs = {shape},
         .function = [=](const auto& x,
                         KernelChoice) { return index_select(x[0], dim, from_vector(chosen).to(x[0].device())); },
         .reference = [=](const auto& in) { return naive_gather(in[0], dim, slices, spread(slices, dim, chosen)); }});
    list.push_back(
        {.name = "index_add" + suffix,
         .inputs = {shape, slices},
         .function = [=](const auto& x,
                         KernelChoice) { return index_add(x[0], dim, from_vector(chosen).to(x[0].device()), x[1]); },
         .reference =
             [=](const auto& in) { return naive_scatter_add(in[0], dim, spread(slices, dim, chosen), in[1]); }});
  }
  const Index vector_index = {3, 0, 3, 12, 1};
  list.push_back(
      {.name = "index_select_vector",
       .inputs = {{13}},
       .function = [=](const auto& x,
                       KernelChoice) { return index_select(x[0], 0, from_vector(vector_index).to(x[0].device())); },
       .reference = [=](const auto& in) { return naive_gather(in[0], 0, {5}, vector_index); }});
  const Index tokens = some_indices(12, 9);
  list.push_back({.name = "embedding",
                  .inputs = {{9, 37}},
                  .function =
                      [=](const auto& x, KernelChoice) {
                        return embedding(from_vector(tokens, {3, 4}).to(x[0].device()), x[0]);
                      },
                  .reference =
                      [=](const auto& in) {
                        Array out = zero_array({3, 4, 37});
                        for (std::size_t i = 0; i < out.values.size(); ++i) {
                          out[i] = in[0][static_cast<std::size_t>(tokens[i / 37]) * 37 + i % 37];
                        }
                        return out;
                      }});
  list.push_back({.name = "take",
                  .inputs = {{4, 5, 6}},
                  .function =
                      [](const auto& x, KernelChoice) {
                        const Tensor i = from_vector<std::int64_t>({0, 3, 3}, {3, 1});
                        const Tensor j = from_vector<std::int32_t>({4, 1});
                        return take(x[0], {i.to(x[0].device()), j.to(x[0].device())});
                      },
                  .reference =
                      [](const auto& in) {
                        const std::size_t i[] = {0, 3, 3};
                        const std::size_t j[] = {4, 1};
                        Array out = zero_array({3, 2, 6});
                        for (std::size_t k = 0; k < out.values.size(); ++k) {
                          out[k] = in[0][(i[k / 12] * 5 + j[k / 6 % 2]) * 6 + k % 6];
                        }
                        return out;
                      }});
  for (const std::int64_t diagonal : {-2, 0, 3}) {
    for (const bool upper : {false, true}) {
      list.push_back(
          {.name = std::string(upper ? "triu" : "tril") + (diagonal < 0   ? "_below"
                                                           : diagonal > 0 ? "_above"
                                                                          : ""),
           .inputs = {{3, 5, 7}},
           .function = [=](const auto& x, KernelChoice) { return upper ? triu(x[0], diagonal) : tril(x[0], diagonal); },
           .reference =
               [=](const auto& in) {
                 Array out = in[0];
                 for_each_index(out.shape, [&](const Dims& at) {
                   const std::int64_t d = at[2] - at[1];
                   if (upper ? d < diagonal : d > diagonal) out[flat(out.shape, at)] = 0;
                 });
                 return out;
               }});
    }
  }
  return list;
}

class Indexing : public ::testing::TestWithParam<OpCase> {};
TEST_P(Indexing, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, Indexing, ::testing::ValuesIn(indexing_cases()),
                         [](const auto& info) { return info.param.name; });

class IndexingOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, IndexingOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(IndexingOnDevice, EveryDtypeAndBothIndexTypes) {
  for (const DType dtype : {DType::boolean, DType::u8, DType::i32, DType::i64, DType::f16, DType::bf16, DType::f32}) {
    const Tensor x = from_vector<double>({1, 0, 1, 1, 0, 1}, {3, 2}).to(dtype);
    for (const DType index_dtype : {DType::i32, DType::i64}) {
      const Tensor index = from_vector<double>({2, 1}).to(index_dtype);
      EXPECT_EQ(index_select(x, 0, index).to_doubles(), (std::vector<double>{0, 1, 1, 1}));
      EXPECT_EQ(gather(x, 0, index.reshape({1, 2})).to_doubles(), (std::vector<double>{0, 1}));
      EXPECT_EQ(gather(x, 0, index.reshape({1, 2})).dtype(), dtype);
      EXPECT_EQ(take(x, {index, index * 0}).to_doubles(), (std::vector<double>{0, 1}));
      EXPECT_EQ(triu(x).to_doubles(), (std::vector<double>{1, 0, 0, 1, 0, 0}));
      if (dtype == DType::boolean) continue;
      EXPECT_EQ(index_add(x, 0, index, ones({2, 2}).to(dtype)).to_doubles(), (std::vector<double>{1, 0, 2, 2, 1, 2}));
      EXPECT_EQ(scatter_add(x, 0, index.reshape({1, 2}), ones({1, 2}).to(dtype)).to_doubles(),
                (std::vector<double>{1, 0, 1, 2, 1, 1}));
    }
  }
}

TEST_P(IndexingOnDevice, StridedIndices) {
  const Tensor x = from_vector<double>({10, 11, 12, 13});
  const Tensor index = from_vector<std::int64_t>({3, 0, 2, 0, 1, 0}).slice(0, 0, 6, 2);
  EXPECT_EQ(index_select(x, 0, index).to_doubles(), (std::vector<double>{13, 12, 11}));
  EXPECT_EQ(gather(x, 0, index).to_doubles(), (std::vector<double>{13, 12, 11}));
  EXPECT_EQ(gather(x, 0, from_vector<std::int64_t>({2}).expand({3})).to_doubles(), (std::vector<double>{12, 12, 12}));
  EXPECT_EQ(scatter_add(x, 0, index, ones({}, {DType::f64}).expand({3})).to_doubles(),
            (std::vector<double>{10, 12, 13, 14}));
}

TEST_P(IndexingOnDevice, OneHot) {
  const Tensor y = one_hot(from_vector<std::int32_t>({2, 0, 2, 1}, {2, 2}), 3);
  EXPECT_EQ(y.shape(), Shape({2, 2, 3}));
  EXPECT_EQ(y.dtype(), DType::i64);
  EXPECT_EQ(y.to_vector<std::int64_t>(), (Index{0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0}));
  EXPECT_EQ(one_hot(from_vector<std::int64_t>({1}, Shape{}), 2).shape(), Shape({2}));
}

TEST_P(IndexingOnDevice, NothingToDo) {
  const Tensor none = empty({0}, {DType::i64});
  const Tensor x = ones({3, 2}, {.requires_grad = true});
  EXPECT_EQ(index_select(x, 0, none).shape(), Shape({0, 2}));
  EXPECT_EQ(index_select(zeros({3, 0}), 0, from_vector<std::int64_t>({1, 1})).shape(), Shape({2, 0}));
  EXPECT_EQ(index_add(x, 0, none, zeros({0, 2})).to_doubles(), std::vector<double>(6, 1));
  EXPECT_EQ(gather(x, 0, empty({0, 2}, {DType::i64})).shape(), Shape({0, 2}));
  EXPECT_EQ(one_hot(none, 4).shape(), Shape({0, 4}));
  EXPECT_EQ(triu(zeros({0, 3})).shape(), Shape({0, 3}));
  const Tensor y = embedding(none, x);
  EXPECT_EQ(y.shape(), Shape({0, 2}));
  y.backward(ones_like(y));
  EXPECT_EQ(x.grad().to_doubles(), std::vector<double>(6, 0));
}

TEST_P(IndexingOnDevice, EmbeddingGradientAddsRepeatsAndAccumulates) {
  Tensor weight = zeros({4, 3}, {DType::f64}).requires_grad_();
  const Tensor tokens = from_vector<std::int64_t>({2, 0, 2, 2});
  const Tensor dy = from_vector<double>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {4, 3});
  embedding(tokens, weight).backward(dy);
  const std::vector<double> once = {4, 5, 6, 0, 0, 0, 18, 21, 24, 0, 0, 0};
  EXPECT_EQ(weight.grad().to_vector<double>(), once);
  embedding(tokens, weight).backward(dy);
  std::vector<double> twice = once;
  for (double& v : twice) v *= 2;
  EXPECT_EQ(weight.grad().to_vector<double>(), twice);
  weight.zero_grad();  // the stale buffer must not shine through
  embedding(tokens, weight).backward(dy);
  EXPECT_EQ(weight.grad().to_vector<double>(), once);
}

TEST_P(IndexingOnDevice, EmbeddingOfManyRepeatsLosesNothingIn16Bits) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Tensor weight = zeros({3, 5}, {dtype}).requires_grad_();
    const Tensor tokens = full({4096}, 1, {DType::i64});
    embedding(tokens, weight).backward(ones({4096, 5}, {dtype}));
    EXPECT_EQ(weight.grad().to_doubles(),
              (std::vector<double>{0, 0, 0, 0, 0, 4096, 4096, 4096, 4096, 4096, 0, 0, 0, 0, 0}));
    Tensor x = zeros({3}, {dtype}).requires_grad_();
    gather(x, 0, tokens).backward(ones({4096}, {dtype}));
    EXPECT_EQ(x.grad().to_doubles(), (std::vector<double>{0, 4096, 0}));
  }
}

TEST_P(IndexingOnDevice, EmbeddingOfRareTokensOfALargeVocabulary) {
  // Fewer indices than would pay for counting every destination.
  Tensor weight = zeros({100000, 2}).requires_grad_();
  embedding(from_vector<std::int64_t>({99999, 7, 99999}), weight).backward(ones({3, 2}));
  const Tensor g = weight.grad();
  EXPECT_EQ(g[99999].to_doubles(), (std::vector<double>{2, 2}));
  EXPECT_EQ(g[7].to_doubles(), (std::vector<double>{1, 1}));
  EXPECT_EQ(sum(g).item<float>(), 6);
}

/// f() with one thread and with two gives the same bits.
template <class F>
void expect_threads_do_not_matter(F f) {
  set_num_threads(1);
  const std::vector<float> one = f();
  set_num_threads(2);
  EXPECT_EQ(f(), one);
  set_num_threads(3);
  EXPECT_EQ(f(), one);
  set_num_threads(0);
}

TEST(Indexing, ThreadsDoNotChangeTheResult) {
  const Index tokens = some_indices(4001, 65);
  for (const std::int64_t width : {3, 40, 384}) {
    expect_threads_do_not_matter([&] {
      Generator generator(3);
      Tensor weight = randn({65, width}, {.requires_grad = true}, &generator);
      const Tensor y = embedding(from_vector(tokens), weight);
      y.backward(randn(y.shape(), {}, &generator));
      return weight.grad().to_vector<float>();
    });
  }
  for (const int dim : {0, 1}) {
    expect_threads_do_not_matter([&] {
      Generator generator(3);
      const Tensor source = randn({300, 300}, {}, &generator);
      const Tensor index = randint(0, 20, {300, 300}, {DType::i64}, &generator);
      Shape shape = {300, 300};
      shape[dim] = 20;
      return scatter_add(zeros(shape), dim, index, source).to_vector<float>();
    });
  }
}

TEST_P(IndexingOnDevice, AgreesWithNaiveLoopsWhereThreadsShareTheWork) {
  // Large enough to be split; every layout of what is picked from.
  const Shape shape = {130, 67, 33};
  const Array x{shape, random_values(static_cast<std::size_t>(numel(shape)), 1)};
  for (int dim = 0; dim < 3; ++dim) {
    const Index index = some_indices(201, shape[dim]);
    Shape slices = shape;
    slices[dim] = 201;
    const Array expected = naive_gather(x, dim, slices, spread(slices, dim, index));
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced}) {
      const Tensor t = make_tensor(x.values, shape, DType::f64, layout, device());
      EXPECT_EQ(index_select(t, dim, from_vector(index)).to_doubles(), expected.values);
    }
    const Array sums = naive_scatter_add(zero_array(shape), dim, spread(slices, dim, index), expected);
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced}) {
      const Tensor source = make_tensor(expected.values, slices, DType::f64, layout, device());
      const Tensor out = index_add(zeros(shape, {DType::f64}), dim, from_vector(index), source);
      EXPECT_LT(relative_error(out.to_doubles(), sums.values), 1e-14);
    }
  }
}

/// What the IndexError of f says. The CPU throws it at once, a card when it is next waited for, and says that it is
/// late.
template <class F>
std::string index_error_of(Device device, F f) {
  const std::string text = message_of<IndexError>([&] {
    f();
    synchronize(device);
  });
  const std::size_t late = text.find("; found on the card");
  EXPECT_EQ(late != std::string::npos, !device.is_cpu()) << text;
  return text.substr(0, late);
}

TEST_P(IndexingOnDevice, BadIndicesAreNamedAndNothingIsWritten) {
  const Tensor weight = zeros({50257, 2});
  std::vector<std::int64_t> tokens(40, 5);
  tokens[17] = 50300;
  tokens[30] = -1;
  EXPECT_EQ(index_error_of(device(),
                           [&] {
                             static_cast<void>(embedding(from_vector(tokens, {2, 20}), weight));
                           }),
            "[embedding] index 50300 at position 17 is out of range for 50257 rows");
  tokens[17] = 50257;
  EXPECT_EQ(index_error_of(device(), [&] { static_cast<void>(embedding(from_vector(tokens), weight)); }),
            "[embedding] index 50257 at position 17 is out of range for 50257 rows");
  tokens[17] = -3;
  EXPECT_EQ(index_error_of(
                device(),
                [&] {
                  static_cast<void>(embedding(from_vector(tokens, {20, 2}).to(DType::i32).transpose(0, 1), weight));
                }),
            "[embedding] index -1 at position 15 is out of range for 50257 rows");
  const Tensor x = zeros({3, 4});
  const Tensor bad = from_vector<std::int64_t>({0, 4}, {1, 2});
  EXPECT_EQ(index_error_of(device(), [&] { static_cast<void>(gather(x, 1, bad)); }),
            "[gather] index 4 at position 1 is out of range for 4 elements of dim 1");
  EXPECT_EQ(index_error_of(device(),
                           [&] {
                             static_cast<void>(scatter_add(x, 0, bad, zeros({1, 2})));
                           }),
            "[scatter_add] index 4 at position 1 is out of range for 3 elements of dim 0");
  EXPECT_EQ(index_error_of(device(), [&] { static_cast<void>(index_select(x, 0, bad.flatten())); }),
            "[index_select] index 4 at position 1 is out of range for 3 elements of dim 0");
  EXPECT_EQ(index_error_of(device(),
                           [&] {
                             static_cast<void>(index_add(x, 0, bad.flatten(), zeros({2, 4})));
                           }),
            "[index_add] index 4 at position 1 is out of range for 3 elements of dim 0");
  EXPECT_EQ(index_error_of(device(),
                           [&] {
                             static_cast<void>(take(x, {bad, bad}));
                           }),
            "[take] index 4 at position 1 is out of range for 3 elements of dim 0");
  EXPECT_EQ(index_error_of(device(), [&] { static_cast<void>(one_hot(bad, 4)); }),
            "[one_hot] index 4 at position 1 is out of range for 4 classes");
  EXPECT_EQ(index_error_of(device(), [&] { static_cast<void>(gather(zeros({0}), 0, zeros({1}, {DType::i64}))); }),
            "[gather] index 0 at position 0 is out of range for 0 elements of dim 0");
}

TEST(Indexing, ErrorsOfShapeAndType) {
  const Tensor x = zeros({3, 4});
  const Tensor index = zeros({2}, {DType::i64});
  EXPECT_EQ(message_of<DtypeError>([&] { static_cast<void>(embedding(zeros({2}), x)); }),
            "[embedding] the index must be i64 or i32, got f32 of shape [2]; convert it with to()");
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(embedding(index, zeros({3}))); }),
            "[embedding] the weight must have the shape (vocabulary, width), got [3]");
  EXPECT_EQ(
      message_of<ShapeError>([&] { static_cast<void>(gather(x, 0, index)); }),
      "[gather] an index of shape [2] does not fit a tensor of shape [3, 4]: it needs as many dims, and no dim but 0 "
      "may be larger");
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(scatter_add(x, 0, zeros({1, 2}, {DType::i64}), x));
            }),
            "[scatter_add] the index has shape [1, 2], the source [3, 4]; they must be equal");
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(index_select(x, 0, zeros({1, 2}, {DType::i64})));
            }),
            "[index_select] the index must have one dim, got shape [1, 2]");
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(index_add(x, 1, index, x)); }),
            "[index_add] adding 2 slices along dim 1 of shape [3, 4] takes a source of shape [3, 2], got [3, 4]");
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(take(x, {})); }),
            "[take] 0 index tensors were given for shape [3, 4]; give 1 to 2");
  EXPECT_EQ(message_of<ConfigError>([&] { static_cast<void>(one_hot(index, 0)); }),
            "[one_hot] 0 classes were asked for; at least 1 is needed");
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(tril(zeros({3}))); }),
            "[tril] takes a matrix or a batch of them, got a tensor of shape [3]");
  EXPECT_THROW(static_cast<void>(index_select(x, 2, index)), IndexError);
}

TEST_P(IndexingOnDevice, TrianglesOfExtremeDiagonals) {
  const Tensor x = ones({2, 3});
  EXPECT_EQ(sum(tril(x, INT64_MAX)).item<float>(), 6);
  EXPECT_EQ(sum(tril(x, INT64_MIN)).item<float>(), 0);
  EXPECT_EQ(sum(triu(x, INT64_MAX)).item<float>(), 0);
  EXPECT_EQ(sum(triu(x, INT64_MIN)).item<float>(), 6);
}

}  // namespace
}  // namespace trinix::testing
