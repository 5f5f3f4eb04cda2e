"""The machine code that follows tapes, as texts in LLVM's language: one by one, again and again, and by several threads together.

`flowgraph.jit.tape` puts them behind `FOLLOW`, fills in HEADER, TYPES and SCALARS, and has them compiled.
"""

# What all texts begin with.
FOLLOW = """\
@flowgraph_ndarray = external global i8
TYPES
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @Py_IncRef(ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)

define internal void @follow(ptr %first, ptr %bases) {
entry:
  %operands = alloca [64 x ptr]
  br label %instruction
instruction:
  %at = phi ptr [ %first, %entry ], [ %behind, %called ]
  %head = load ptr, ptr %at
  %is_end = icmp eq ptr %head, null
  br i1 %is_end, label %end, label %read
read:
  %code = load ptr, ptr %head
  %data_at = getelementptr i64, ptr %head, i64 1
  %data = load ptr, ptr %data_at
  %count_at = getelementptr i64, ptr %head, i64 2
  %count = load i64, ptr %count_at
  %times_at = getelementptr i64, ptr %head, i64 3
  %times = load i64, ptr %times_at
  %dims_at = getelementptr i64, ptr %head, i64 4
  %dims = load ptr, ptr %dims_at
  %strides_at = getelementptr i64, ptr %head, i64 5
  %strides = load ptr, ptr %strides_at
  %steps_at = getelementptr i64, ptr %head, i64 6
  %steps = load ptr, ptr %steps_at
  %places = getelementptr i64, ptr %at, i64 1
  %behind = getelementptr i64, ptr %places, i64 %count
  br label %place
place:
  %i = phi i64 [ 0, %read ], [ %i.next, %place ]
  %word_at = getelementptr i64, ptr %places, i64 %i
  %word = load i64, ptr %word_at
  %number = lshr i64 %word, 48
  %offset = and i64 %word, 281474976710655
  %base_at = getelementptr ptr, ptr %bases, i64 %number
  %base = load ptr, ptr %base_at
  %operand = getelementptr i8, ptr %base, i64 %offset
  %operand_at = getelementptr ptr, ptr %operands, i64 %i
  store ptr %operand, ptr %operand_at
  %i.next = add i64 %i, 1
  %placed = icmp eq i64 %i.next, %count
  br i1 %placed, label %call, label %place
call:
  %left = phi i64 [ %times, %place ], [ %left.next, %moved ]
  call void %code(ptr %operands, ptr %dims, ptr %strides, ptr %data)
  %left.next = sub i64 %left, 1
  %is_last = icmp eq i64 %left.next, 0
  br i1 %is_last, label %called, label %move
move:
  %j = phi i64 [ 0, %call ], [ %j.next, %move ]
  %moving_at = getelementptr ptr, ptr %operands, i64 %j
  %moving = load ptr, ptr %moving_at
  %step_at = getelementptr i64, ptr %steps, i64 %j
  %step = load i64, ptr %step_at
  %there = getelementptr i8, ptr %moving, i64 %step
  store ptr %there, ptr %moving_at
  %j.next = add i64 %j, 1
  %all = icmp eq i64 %j.next, %count
  br i1 %all, label %moved, label %move
moved:
  br label %call
called:
  br label %instruction
end:
  ret void
}
"""

# A kernel up to what it does: %words are its own, and %bases the address of each argument's first element, behind a null.
_ARGUMENTS = """
define ptr @kernel(ptr %self, ptr %args, i64 %given, ptr %names) {
entry:
  %words_at = getelementptr i8, ptr %self, i64 HEADER
  %words = load ptr, ptr %words_at
  %size = add i64 %given, 2
  %bases = alloca ptr, i64 %size
  store ptr null, ptr %bases
  %stack_at = getelementptr i64, ptr %words, i64 2
  %stack_size = load i64, ptr %stack_at
  %stack = alloca i8, i64 %stack_size, align 64
  %last_number = add i64 %given, 1
  %last_at = getelementptr ptr, ptr %bases, i64 %last_number
  store ptr %stack, ptr %last_at
  br label %argument
argument:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fine ]
  %all = icmp eq i64 %i, %given
  br i1 %all, label %start, label %look
look:
  %argument_at = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %argument_at
  %fields = getelementptr i8, ptr %object, i64 HEADER
  %kind_at = getelementptr i8, ptr %fields, i64 -8
  %kind = load ptr, ptr %kind_at
  %is_array = icmp eq ptr %kind, @flowgraph_ndarray
  br i1 %is_array, label %array, label %scalar
array:
  %elements = load ptr, ptr %fields
  %flags_at = getelementptr i8, ptr %fields, i64 48
  %flags = load i32, ptr %flags_at
  %contiguous_aligned = and i32 %flags, 257
  %is_fine = icmp eq i32 %contiguous_aligned, 257
  br i1 %is_fine, label %fine, label %otherwise
scalar:
SCALARS
fine:
  %base = phi ptr [ %elements, %array ], [ %fields, %scalar ]
  %i.next = add i64 %i, 1
  %base_at = getelementptr ptr, ptr %bases, i64 %i.next
  store ptr %base, ptr %base_at
  br label %argument
"""

# Follows the tape once, with Python's lock or without.
_ONCE = """\
start:
  %with_lock = load i64, ptr %words
  %keeps_lock = icmp ne i64 %with_lock, 0
  %first = getelementptr i64, ptr %words, i64 3
  br i1 %keeps_lock, label %held, label %released
held:
  call void @follow(ptr %first, ptr %bases)
  br label %end
released:
  %saved = call ptr @PyEval_SaveThread()
  call void @follow(ptr %first, ptr %bases)
  call void @PyEval_RestoreThread(ptr %saved)
  br label %end
"""

# How a kernel ends: it gives the last argument back, or what the function gives that takes over where an argument is not as it should be.
_RETURN = """\
end:
  %last = getelementptr ptr, ptr %args, i64 %given
  %result_at = getelementptr i8, ptr %last, i64 -8
  %result = load ptr, ptr %result_at
  call void @Py_IncRef(ptr %result)
  ret ptr %result
otherwise:
  %function_at = getelementptr i64, ptr %words, i64 1
  %function = load ptr, ptr %function_at
  %made = call ptr @PyObject_Vectorcall(ptr %function, ptr %args, i64 %given, ptr %names)
  ret ptr %made
}
"""

# Follows the tape again and again, as `repeat_code` says.
_AGAIN = """\
define void @bare(ptr %operands, ptr %dims, ptr %strides, ptr %data) {
entry:
  %fixed = load i64, ptr %dims
  %is_fixed = icmp ne i64 %fixed, 0
  br i1 %is_fixed, label %start, label %ask
ask:
  %told_at = load ptr, ptr %operands
  %told = load i64, ptr %told_at
  br label %start
start:
  %times = phi i64 [ %fixed, %entry ], [ %told, %ask ]
  %count_at = getelementptr i64, ptr %dims, i64 1
  %count = load i64, ptr %count_at
  %first = load ptr, ptr %data
  %rotations_at = getelementptr i64, ptr %data, i64 1
  %rotations = load i64, ptr %rotations_at
  %finals_at = getelementptr i64, ptr %data, i64 2
  %finals = load i64, ptr %finals_at
  %triples = getelementptr i64, ptr %data, i64 3
  %size = add i64 %count, 1
  %bases = alloca ptr, i64 %size
  store ptr null, ptr %bases
  %own = getelementptr ptr, ptr %bases, i64 1
  %bytes = mul i64 %count, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %own, ptr %operands, i64 %bytes, i1 false)
  br label %time
time:
  %left = phi i64 [ %times, %start ], [ %left.next, %moved ]
  %is_over = icmp eq i64 %left, 0
  br i1 %is_over, label %ending, label %once
once:
  call void @follow(ptr %first, ptr %bases)
  %left.next = sub i64 %left, 1
  br label %rotation
rotation:
  %r = phi i64 [ 0, %once ], [ %r.next, %rotated ]
  %has_rotated = icmp eq i64 %r, %rotations
  br i1 %has_rotated, label %step, label %rotate
rotate:
  %r3 = mul i64 %r, 3
  %one_at = getelementptr i64, ptr %triples, i64 %r3
  %one = load i64, ptr %one_at
  %two_at = getelementptr i64, ptr %one_at, i64 1
  %two = load i64, ptr %two_at
  %three_at = getelementptr i64, ptr %one_at, i64 2
  %three = load i64, ptr %three_at
  %one_base = getelementptr ptr, ptr %bases, i64 %one
  %two_base = getelementptr ptr, ptr %bases, i64 %two
  %made = load ptr, ptr %two_base
  store ptr %made, ptr %one_base
  %r.next = add i64 %r, 1
  %has_third = icmp ne i64 %three, 0
  br i1 %has_third, label %exchange, label %rotated
exchange:
  %three_base = getelementptr ptr, ptr %bases, i64 %three
  %other = load ptr, ptr %three_base
  store ptr %other, ptr %two_base
  store ptr %made, ptr %three_base
  br label %rotated
rotated:
  br label %rotation
step:
  %k = phi i64 [ 0, %rotation ], [ %k.next, %stepping ]
  %has_moved = icmp eq i64 %k, %count
  br i1 %has_moved, label %moved, label %stepping
stepping:
  %by_at = getelementptr i64, ptr %strides, i64 %k
  %by = load i64, ptr %by_at
  %k.next = add i64 %k, 1
  %moving_at = getelementptr ptr, ptr %bases, i64 %k.next
  %moving = load ptr, ptr %moving_at
  %there = getelementptr i8, ptr %moving, i64 %by
  store ptr %there, ptr %moving_at
  br label %step
moved:
  br label %time
ending:
  %threes = mul i64 %rotations, 3
  %ends = getelementptr i64, ptr %triples, i64 %threes
  br label %final
final:
  %f = phi i64 [ 0, %ending ], [ %f.next, %copy ]
  %has_copied = icmp eq i64 %f, %finals
  br i1 %has_copied, label %over, label %copy
copy:
  %f3 = mul i64 %f, 3
  %from_at = getelementptr i64, ptr %ends, i64 %f3
  %from = load i64, ptr %from_at
  %length_at = getelementptr i64, ptr %from_at, i64 1
  %length = load i64, ptr %length_at
  %to_at = getelementptr i64, ptr %from_at, i64 2
  %to = load i64, ptr %to_at
  %from_base = getelementptr ptr, ptr %bases, i64 %from
  %source = load ptr, ptr %from_base
  %to_base = getelementptr ptr, ptr %bases, i64 %to
  %target = load ptr, ptr %to_base
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %length, i1 false)
  %f.next = add i64 %f, 1
  br label %final
over:
  ret void
}
"""

# The state of a run: tasks left, whether it is to stop, bases, tasks, how many; then for each task for how many it waits, and the ready
# tasks as bits.
_WORK = """
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare i64 @llvm.cttz.i64(i64, i1)

define internal void @work(ptr %state) {
entry:
  %stop_at = getelementptr i64, ptr %state, i64 1
  %bases_at = getelementptr i64, ptr %state, i64 2
  %bases = load ptr, ptr %bases_at
  %tasks_at = getelementptr i64, ptr %state, i64 3
  %tasks = load ptr, ptr %tasks_at
  %count_at = getelementptr i64, ptr %state, i64 4
  %count = load i64, ptr %count_at
  %waiting = getelementptr i64, ptr %state, i64 5
  %ready = getelementptr i64, ptr %waiting, i64 %count
  %rounded = add i64 %count, 63
  %sixty_fours = lshr i64 %rounded, 6
  br label %look
look:
  %idle = phi i64 [ 0, %entry ], [ %idle.next, %nothing ], [ %idle.next, %yielded ], [ 0, %done ]
  %left = load atomic i64, ptr %state seq_cst, align 8
  %stop = load atomic i64, ptr %stop_at seq_cst, align 8
  %is_over = icmp eq i64 %left, 0
  %is_stopped = icmp ne i64 %stop, 0
  %ends = or i1 %is_over, %is_stopped
  br i1 %ends, label %end, label %search
search:
  %w = phi i64 [ 0, %look ], [ %w.next, %none ]
  %searched = icmp eq i64 %w, %sixty_fours
  br i1 %searched, label %nothing, label %test
test:
  %ready_at = getelementptr i64, ptr %ready, i64 %w
  %bits = load atomic i64, ptr %ready_at seq_cst, align 8
  %is_empty = icmp eq i64 %bits, 0
  br i1 %is_empty, label %none, label %claim
none:
  %w.next = add i64 %w, 1
  br label %search
claim:
  %bit = call i64 @llvm.cttz.i64(i64 %bits, i1 true)
  %less = sub i64 %bits, 1
  %rest = and i64 %bits, %less
  %exchanged = cmpxchg ptr %ready_at, i64 %bits, i64 %rest seq_cst seq_cst
  %is_mine = extractvalue { i64, i1 } %exchanged, 1
  br i1 %is_mine, label %run, label %test
run:
  %first_of = shl i64 %w, 6
  %task = add i64 %first_of, %bit
  %entry_of = mul i64 %task, 3
  %tape_at = getelementptr i64, ptr %tasks, i64 %entry_of
  %tape = load ptr, ptr %tape_at
  %number_at = getelementptr i64, ptr %tape_at, i64 1
  %number = load i64, ptr %number_at
  %readers_at = getelementptr i64, ptr %tape_at, i64 2
  %readers = load ptr, ptr %readers_at
  call void @follow(ptr %tape, ptr %bases)
  br label %tell
tell:
  %r = phi i64 [ 0, %run ], [ %r.next, %told ]
  %all_told = icmp eq i64 %r, %number
  br i1 %all_told, label %done, label %reader
reader:
  %reader_at = getelementptr i64, ptr %readers, i64 %r
  %waiter = load i64, ptr %reader_at
  %waits_at = getelementptr i64, ptr %waiting, i64 %waiter
  %before = atomicrmw sub ptr %waits_at, i64 1 seq_cst
  %r.next = add i64 %r, 1
  %is_ready = icmp eq i64 %before, 1
  br i1 %is_ready, label %offer, label %told
offer:
  %word = lshr i64 %waiter, 6
  %in_word = and i64 %waiter, 63
  %mark = shl i64 1, %in_word
  %offer_at = getelementptr i64, ptr %ready, i64 %word
  %offered = atomicrmw or ptr %offer_at, i64 %mark seq_cst
  br label %told
told:
  br label %tell
done:
  %were_left = atomicrmw sub ptr %state, i64 1 seq_cst
  br label %look
nothing:
  %idle.next = add i64 %idle, 1
  %turn = and i64 %idle.next, 1023
  %yields = icmp eq i64 %turn, 0
  br i1 %yields, label %yield, label %look
yield:
  %given_up = call i32 @sched_yield()
  br label %yielded
yielded:
  br label %look
end:
  ret void
}
"""

# The board: the state of the run that wants helpers, how many are at it, how many look, and the processor of the one to help.
_LEAD = """
start:
  %saved = call ptr @PyEval_SaveThread()
  %board_at = getelementptr i64, ptr %words, i64 3
  %board = load ptr, ptr %board_at
  %initial_at = getelementptr i64, ptr %words, i64 4
  %initial = load ptr, ptr %initial_at
  %words_at_first = getelementptr i64, ptr %words, i64 5
  %state_words = load i64, ptr %words_at_first
  %state = alloca i64, i64 %state_words, align 64
  %state_bytes = shl i64 %state_words, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %state, ptr %initial, i64 %state_bytes, i1 false)
  %bases_at = getelementptr i64, ptr %state, i64 2
  store ptr %bases, ptr %bases_at
  %address = ptrtoint ptr %state to i64
  %processor = call i32 @sched_getcpu()
  %processor_at = getelementptr i64, ptr %board, i64 3
  %processor_number = zext i32 %processor to i64
  store atomic i64 %processor_number, ptr %processor_at seq_cst, align 8
  store atomic i64 %address, ptr %board seq_cst, align 8
  call void @work(ptr %state)
  store atomic i64 0, ptr %board seq_cst, align 8
  %inside_at = getelementptr i64, ptr %board, i64 1
  br label %wait
wait:
  %inside = load atomic i64, ptr %inside_at seq_cst, align 8
  %is_alone = icmp eq i64 %inside, 0
  br i1 %is_alone, label %go, label %give_way
give_way:
  %given_way = call i32 @sched_yield()
  br label %wait
go:
  call void @PyEval_RestoreThread(ptr %saved)
  br label %end
"""

_HELP = """
define ptr @kernel(ptr %self, ptr %args, i64 %given, ptr %names) {
entry:
  %words_at = getelementptr i8, ptr %self, i64 HEADER
  %words = load ptr, ptr %words_at
  %board = load ptr, ptr %words
  %patience_at = getelementptr i64, ptr %words, i64 1
  %patience = load i64, ptr %patience_at
  %inside_at = getelementptr i64, ptr %board, i64 1
  %looking_at = getelementptr i64, ptr %board, i64 2
  %processor_at = getelementptr i64, ptr %board, i64 3
  %saved = call ptr @PyEval_SaveThread()
  %looked = atomicrmw add ptr %looking_at, i64 1 seq_cst
  br label %look
look:
  %idle = phi i64 [ 0, %entry ], [ %idle.next, %stay ], [ %idle.next, %yielded ], [ 0, %left ]
  %wanted = load atomic i64, ptr %board seq_cst, align 8
  %is_wanted = icmp ne i64 %wanted, 0
  br i1 %is_wanted, label %come, label %nothing
come:
  %came = atomicrmw add ptr %inside_at, i64 1 seq_cst
  %run = load atomic i64, ptr %board seq_cst, align 8
  %is_there = icmp ne i64 %run, 0
  br i1 %is_there, label %compare, label %left
compare:
  %here = call i32 @sched_getcpu()
  %here_number = zext i32 %here to i64
  %there = load atomic i64, ptr %processor_at seq_cst, align 8
  %is_beside = icmp ne i64 %here_number, %there
  br i1 %is_beside, label %help, label %move
move:
  %moved = atomicrmw sub ptr %inside_at, i64 1 seq_cst
  br label %end
help:
  %state = inttoptr i64 %run to ptr
  call void @work(ptr %state)
  br label %left
left:
  %went = atomicrmw sub ptr %inside_at, i64 1 seq_cst
  br label %look
nothing:
  %idle.next = add i64 %idle, 1
  %is_tired = icmp ugt i64 %idle.next, %patience
  br i1 %is_tired, label %end, label %stay
stay:
  %turn = and i64 %idle.next, 1023
  %yields = icmp eq i64 %turn, 0
  br i1 %yields, label %yield, label %look
yield:
  %given_up = call i32 @sched_yield()
  br label %yielded
yielded:
  br label %look
end:
  %unlooked = atomicrmw sub ptr %looking_at, i64 1 seq_cst
  call void @PyEval_RestoreThread(ptr %saved)
  call void @Py_IncRef(ptr %self)
  ret ptr %self
}
"""

TAPE = _ARGUMENTS + _ONCE + _RETURN + _AGAIN  # @kernel and @bare
TEAM = _WORK + _ARGUMENTS + _LEAD + _RETURN
HELPER = _WORK + _HELP
