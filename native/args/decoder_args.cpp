#include "args/decoder_args.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace unrolled {

namespace {
constexpr std::size_t kLine = 64, kLargePage = std::size_t{2} << 20;
}

AlignedBuffer::AlignedBuffer(std::size_t bytes) {
  const bool large = bytes >= kLargePage / 2;
  const std::size_t unit = large ? kLargePage : kLine;
  size_ = (bytes + unit) / unit * unit;  // one unit more: products read a little ahead
  if (posix_memalign(&start_, unit, size_) != 0) {
    start_ = nullptr;
    throw std::bad_alloc();
  }
#if defined(MADV_HUGEPAGE)
  if (large) madvise(start_, size_, MADV_HUGEPAGE);
#endif
  std::memset(start_, 0, size_);
}

AlignedBuffer::~AlignedBuffer() { std::free(start_); }

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(size_, other.size_);
  return *this;
}

std::size_t DecoderModel::weight_bytes() const {
  std::size_t bytes = head.tile * static_cast<std::size_t>(head.tiles);
  for (const DecoderLayer& entry : layer)
    bytes +=
        entry.h.tile * static_cast<std::size_t>(entry.h.tiles) + entry.x.tile * static_cast<std::size_t>(entry.x.tiles);
  return bytes;
}

}  // namespace unrolled
