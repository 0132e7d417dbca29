#!/usr/bin/env python3
''' A client of the vt block store made of the reference implementation
    (cs.packetstream 20240630), to test a server of another one against.

    vt_client.py --command 'CMD ...' --hash sha1|sha256|blake3  [options]

    It does what the original's StreamStore does: one connection for the life
    of the store, asynchronous adds whose answers nobody looks at, and the
    checks of the answers to everything else.
'''

import argparse
import hashlib
import itertools
import os
import random
import shlex
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from contextlib import suppress

# Importing this module also keeps the library's own words off our outputs.
import peer
from peer import check, collect, out, record, say

ADD, GET, CONTAINS, FLUSH, HASHCODES = 0, 1, 2, 3, 4
LENGTH, CONTAINS_INDIRECT = 9, 10
AFTER, HAS_START = 1, 2

HASHES = {'sha1': (0, 20), 'sha256': (1, 32), 'blake3': (2, 32)}

# blake3 of the empty chunk and of b'hello', for want of a hashlib that has it
BLAKE3 = {
    b'': 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262',
    b'hello': 'ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f',
}

LARGEST = 1 << 20
EDGES = 0, 1, 127, 128, 16383, 16384, 65535, 65536, LARGEST - 1, LARGEST


def uint(n):
  ''' Big endian, 7 bits a byte.
  '''
  bs = [n & 0x7f]
  while n := n >> 7:
    bs.append(n & 0x7f | 0x80)
  return bytes(reversed(bs))


def data(bs):
  return uint(len(bs)) + bs


def read_uint(bs):
  n = 0
  for b in bs:
    n = n << 7 | b & 0x7f
  check(uint(n), bytes(bs))
  return n


class Store:
  ''' A server in a child process and the requests of a StreamStore.
  '''

  def __init__(self, command, hashname, args):
    self.hashname = hashname
    self.hashenum, self.digest_len = HASHES[hashname]
    self.timeout = args.timeout
    # no shell: the signal on failure must reach the server itself
    self.child = subprocess.Popen(
        shlex.split(command) + ['--hash', hashname],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=peer.FD_ERR
    )
    peer.CHILDREN.append(self.child)
    self.recv_fd = os.dup(self.child.stdout.fileno())
    self.send_fd = os.dup(self.child.stdin.fileno())
    self.child.stdin.close()
    self.child.stdout.close()
    self.writer = peer.Writer(self.send_fd)
    self.conn = peer.connection(
        self.recv_fd, self.writer, peer.Handlers(), hashname, args.grace
    )
    self.conn.open()

  def call(self, rq_type, payload=b'', flags=0):
    ok, rflags, rpayload = collect(
        self.conn.submit(rq_type, flags, payload), self.timeout
    )
    return ok, rflags, bytes(rpayload)

  def ask(self, rq_type, payload=b'', flags=0):
    ok, rflags, rpayload = self.call(rq_type, payload, flags)
    if not ok:
      raise AssertionError(f'rq_type {rq_type} failed: {rpayload[:200]!r}')
    return rflags, rpayload

  def refuses(self, rq_type, payload=b'', flags=0):
    ok, rflags, rpayload = self.call(rq_type, payload, flags)
    if ok:
      raise AssertionError(f'rq_type {rq_type} should fail: {rflags} {rpayload[:50]!r}')
    self.length()

  def ask_all(self, rq_type, payloads, at_once=100):
    ''' The answers to many questions, in their order; the grace of the
        library is then paid only once for many.
    '''
    for i in range(0, len(payloads), at_once):
      todo = [self.conn.submit(rq_type, 0, payload) for payload in payloads[i:i + at_once]]
      for R in todo:
        ok, flags, payload = collect(R, self.timeout)
        check(ok, True)
        yield flags, bytes(payload)

  def asks(self, rq_type, payload):
    ''' A question that is answered by yes or no.
    '''
    flags, rpayload = self.ask(rq_type, payload)
    check((flags in (0, 1), rpayload), (True, b''))
    return flags == 1

  def submit_add(self, chunk):
    return self.conn.submit(ADD, 0, uint(self.hashenum) + data(chunk))

  def add(self, chunk):
    flags, code = self.ask(ADD, uint(self.hashenum) + data(chunk))
    check((flags, len(code), code[0]), (0, 1 + self.digest_len, self.hashenum))
    return code

  def get(self, code):
    flags, chunk = self.ask(GET, code)
    check(flags in (0, 1), True)
    if flags == 0:
      check(chunk, b'')
      return None
    return chunk

  def contains(self, code):
    return self.asks(CONTAINS, code)

  def is_whole(self, code):
    return self.asks(CONTAINS_INDIRECT, code)

  def flush(self):
    check(self.ask(FLUSH), (0, b''))

  def length(self):
    flags, payload = self.ask(LENGTH)
    check(flags, 0)
    return read_uint(payload)

  def selection(self, start=None, length=0):
    return data(self.hashname.encode()) + (start or b'') + uint(length)

  def hashcodes(self, start=None, after=False, length=0):
    flags = (AFTER if after else 0) | (0 if start is None else HAS_START)
    rflags, payload = self.ask(HASHCODES, self.selection(start, length), flags)
    size = 1 + self.digest_len
    check((rflags, len(payload) % size), (0, 0))
    return [payload[i:i + size] for i in range(0, len(payload), size)]

  def close(self):
    ''' ERQ, EOF, then the EOF and the exit of the server.
    '''
    e = peer.run_bounded(self.conn.close, self.timeout)
    self.writer.close()
    for fd in self.recv_fd, self.send_fd:
      peer.close_fd(fd)
    if e:
      self.child.kill()
      self.child.wait()
      raise e
    check(self.child.wait(self.timeout), 0)


class Tests:
  ''' A store, one that only tells hashcodes, and what was added.
  '''

  def __init__(self, store, oracle, rng, chunks):
    self.store = store
    self.oracle = oracle
    self.rng = rng
    self.wanted = chunks
    self.chunks = {}  # by hashcode

  def code_of(self, chunk):
    if self.oracle:
      return self.oracle.add(chunk)
    return uint(self.store.hashenum) + hashlib.new(self.store.hashname, chunk).digest()

  def codes_of(self, chunks):
    if self.oracle:
      payloads = [uint(self.oracle.hashenum) + data(chunk) for chunk in chunks]
      return [code for _, code in self.oracle.ask_all(ADD, payloads)]
    return [self.code_of(chunk) for chunk in chunks]

  def some_chunks(self):
    for size in EDGES:
      yield self.rng.randbytes(size)
    yield from BLAKE3
    for _ in range(self.wanted):
      largest = LARGEST if self.rng.random() < 0.02 else 4096
      yield self.rng.randbytes(self.rng.randint(0, largest))

  def hashes(self):
    ''' Does the oracle know blake3?
    '''
    if self.oracle:
      for chunk, digest in BLAKE3.items():
        check(self.code_of(chunk), b'\x02' + bytes.fromhex(digest))

  def empty_store(self):
    store = self.store
    check((store.length(), store.hashcodes()), (0, []))
    check(store.contains(self.code_of(b'')), False)
    check(store.get(self.code_of(b'')), None)
    check(store.is_whole(self.code_of(b'')), False)
    store.flush()

  def asynchronous_adds(self):
    store = self.store
    chunks = list(self.some_chunks())
    for chunk in chunks:
      store.submit_add(chunk)
      if self.rng.random() < 0.1:
        store.submit_add(chunk)
    store.flush()
    self.chunks.update(zip(self.codes_of(chunks), chunks))
    check(store.length(), len(self.chunks))

  def synchronous_adds(self):
    for _ in range(50):
      chunk = self.rng.randbytes(self.rng.randint(0, 10000))
      code = self.store.add(chunk)
      check(code, self.code_of(chunk))
      self.chunks[code] = chunk
      check(self.store.contains(code), True)
    check(self.store.length(), len(self.chunks))

  def get_and_contains(self):
    codes = list(self.chunks)
    self.rng.shuffle(codes)
    for code in codes[:200]:
      check(self.store.contains(code), True)
      check(self.store.get(code) == self.chunks[code], True)
    for code, answer in zip(codes, self.store.ask_all(GET, codes)):
      if answer != (1, self.chunks[code]):
        raise AssertionError('another chunk for ' + code.hex())
      if self.store.hashname != 'blake3':
        check(hashlib.new(self.store.hashname, answer[1]).digest(), code[1:])
    for answer in self.store.ask_all(CONTAINS, codes):
      check(answer, (1, b''))
    for _ in range(50):
      code = codes[0][:1] + self.rng.randbytes(self.store.digest_len)
      check((self.store.get(code), self.store.contains(code)), (None, False))

  def paging(self):
    codes = sorted(self.chunks)
    check(self.store.hashcodes() == codes, True)
    for size in 1, 7, 100, len(codes) - 1, len(codes), len(codes) + 1:
      if size == 1:
        codes_here = codes[:100]
      else:
        codes_here = codes
      found, page = [], self.store.hashcodes(length=size)
      while page and len(found) < len(codes_here):
        check(len(page) <= size, True)
        found += page
        page = self.store.hashcodes(found[-1], after=True, length=size)
      check(found == codes_here, True)

  def selections(self):
    codes = sorted(self.chunks)
    middle = codes[len(codes) // 2]
    enum, n = codes[0][:1], self.store.digest_len
    starts = [
        enum + bytes(n), codes[0], middle,
        middle[:-1] + bytes([middle[-1] ^ 1]), codes[-1], enum + b'\xff' * n
    ]
    starts += [enum + self.rng.randbytes(n) for _ in range(20)]
    lengths = 0, 1, 2, 10, len(codes) - 1, len(codes), len(codes) + 1, 1 << 63
    for length in lengths:
      check(self.store.hashcodes(length=length) == codes[:length or None], True)
    for start, after, length in itertools.product(starts, (False, True), lengths):
      i = (bisect_right if after else bisect_left)(codes, start)
      want = codes[i:][:length or None]
      got = self.store.hashcodes(start, after, length)
      if got != want:
        raise AssertionError(
            f'start {start.hex()} after {after} length {length}: '
            f'{len(got)} hashcodes instead of {len(want)}'
        )

  def failures(self):
    store = self.store
    code = next(iter(self.chunks))
    store.refuses(HASHCODES, store.selection(), AFTER)
    store.refuses(HASHCODES, store.selection(code), AFTER)
    store.refuses(HASHCODES, store.selection(code), HAS_START | 4)
    store.refuses(HASHCODES, data(b'md5') + uint(0))
    for name, (enum, n) in HASHES.items():
      if name != store.hashname:
        store.refuses(HASHCODES, store.selection(uint(enum) + bytes(n)), HAS_START)
        store.refuses(ADD, uint(enum) + data(b'of another hash'))
    store.refuses(ADD, uint(store.hashenum) + data(b'chunk') + b'!')
    store.refuses(GET, code + b'!')
    store.refuses(GET, code[:-1])
    store.refuses(CONTAINS, b'')
    store.refuses(FLUSH, b'x')
    store.refuses(11)
    check(store.length(), len(self.chunks))

  def leaf(self, chunk):
    return data(uint(0) + uint(len(chunk)) + self.code_of(chunk))

  def inner(self, span, references):
    return data(uint(1) + uint(span) + self.code_of(references))

  def trees(self):
    ''' A file of some megabytes in leaves of some kilobytes, as a tree.
    '''
    store, rng = self.store, self.rng
    leaves = [rng.randbytes(rng.randint(1, 60000)) for _ in range(200)]
    level = [(len(leaf), self.leaf(leaf)) for leaf in leaves]
    inners = []
    while len(level) > 1:
      above = []
      for i in range(0, len(level), 12):
        part = level[i:i + 12]
        span = sum(span for span, _ in part)
        references = b''.join(reference for _, reference in part)
        inners.append(references)
        above.append((span, self.inner(span, references)))
      level = above
    root = self.code_of(inners[-1])
    last_leaf, last_inner = leaves.pop(rng.randrange(200)), inners.pop(3)
    check(store.is_whole(root), False)
    for chunk in leaves + inners:
      store.submit_add(chunk)
    store.flush()
    check((store.contains(root), store.is_whole(root)), (True, False))
    store.add(last_inner)
    check(store.is_whole(root), False)
    store.add(last_leaf)
    check(store.is_whole(root), True)
    for references in inners + [last_inner]:
      check(store.is_whole(self.code_of(references)), True)

    # other kinds of references beside: zeros, a literal, part of a missing block
    before = store.length()
    part = data(uint(2) + uint(5) + uint(3) + uint(7) + self.leaf(b'missing'))
    mixed = b'\x04\x02\x64\x01\x00' + b'\x06\x02\x03\x02lit' + part + level[0][1]
    check(store.is_whole(store.add(mixed)), True)
    check(store.length(), before + 1)
    check(store.is_whole(store.add(mixed + self.leaf(b'missing'))), False)
    store.refuses(CONTAINS_INDIRECT, store.add(mixed + b'\x09'))
    store.refuses(CONTAINS_INDIRECT, store.add(b'\x01\x08'))

  def interleaved(self):
    ''' Adds nobody waits for, between questions that somebody does.
    '''
    for n in range(200):
      chunk = b'interleaved %d' % n
      self.store.submit_add(chunk)
      code = self.code_of(chunk)
      # either answer is right
      self.store.contains(code)
      if n % 10 == 0:
        self.store.flush()
        check(self.store.get(code), chunk)


def main():
  ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  ap.add_argument('--command', required=True, help='the server, run without a shell; gets --hash NAME too')
  ap.add_argument('--hash', required=True, choices=list(HASHES), dest='hashname')
  ap.add_argument('--chunks', type=int, default=2000, help='how many random chunks are added')
  ap.add_argument('--seed', type=int, default=20240630)
  ap.add_argument('--grace', type=float, default=None, help='packet_grace, seconds (default: upstream\'s 0.01)')
  ap.add_argument('--timeout', type=float, default=60.0, help='for each answer')
  ap.add_argument('--max-seconds', type=float, default=600.0, help='hard limit')
  ap.add_argument('--verbose', action='store_true', help='let the library write to stderr')
  args = ap.parse_args()
  # its word for a client, which reports and takes its children along
  peer.watchdog(args.max_seconds, 'call')

  store = Store(args.command, args.hashname, args)
  oracle = None
  if args.hashname == 'blake3':
    oracle = Store(args.command, args.hashname, args)
  tests = Tests(store, oracle, random.Random(args.seed), args.chunks)
  for func in (tests.hashes, tests.empty_store, tests.asynchronous_adds,
               tests.synchronous_adds, tests.get_and_contains, tests.paging,
               tests.selections, tests.failures, tests.trees, tests.interleaved):
    t0 = time.time()
    # the limit of a whole test is that of the process
    e = peer.run_bounded(func, args.max_seconds)
    record(func.__name__, e, time.time() - t0)
    if isinstance(e, (peer.Hang, peer.Cancelled)):
      break
  for name, each in ('orderly_end', store), ('orderly_end_of_the_oracle', oracle):
    if each:
      t0 = time.time()
      e = peer.run_bounded(each.close, 3 * args.timeout)
      record(name, e, time.time() - t0)
  out(f'{peer.RESULTS["passed"]} passed, {peer.RESULTS["failed"]} failed')
  return 1 if peer.RESULTS['failed'] else 0


if __name__ == '__main__':
  # argparse must be able to speak
  if any(a in ('-h', '--help') for a in sys.argv) or len(sys.argv) < 2:
    os.dup2(peer.FD_OUT, 1)
    os.dup2(peer.FD_ERR, 2)
  try:
    rc = main()
  except SystemExit as e:
    rc = e.code if isinstance(e.code, int) else 2
    if rc:
      say('vt_client.py: bad arguments, try --help')
  except BaseException as e:  # pylint: disable=broad-except
    say(f'vt_client.py: {e!r}')
    rc = 1
  with suppress(Exception):
    sys.stdout.flush()
  # not all threads of the library are daemons
  os._exit(rc)
