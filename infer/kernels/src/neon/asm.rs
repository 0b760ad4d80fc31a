//! Lines of assembly that stand four times with other registers.

/// `$op` on four registers each of two lists and a last operand common to all, or of three lists.
macro_rules! each {
    ($op:literal,
     [$a0:literal, $a1:literal, $a2:literal, $a3:literal] $a:literal,
     [$b0:literal, $b1:literal, $b2:literal, $b3:literal] $b:literal,
     [$c0:literal, $c1:literal, $c2:literal, $c3:literal] $c:literal) => {
        concat!(
            $op, " v", $a0, $a, ", v", $b0, $b, ", v", $c0, $c, "\n",
            $op, " v", $a1, $a, ", v", $b1, $b, ", v", $c1, $c, "\n",
            $op, " v", $a2, $a, ", v", $b2, $b, ", v", $c2, $c, "\n",
            $op, " v", $a3, $a, ", v", $b3, $b, ", v", $c3, $c, "\n",
        )
    };
    ($op:literal,
     [$a0:literal, $a1:literal, $a2:literal, $a3:literal] $a:literal,
     [$b0:literal, $b1:literal, $b2:literal, $b3:literal] $b:literal
     $(, $last:literal)*) => {
        concat!(
            $op, " v", $a0, $a, ", v", $b0, $b, $($last,)* "\n",
            $op, " v", $a1, $a, ", v", $b1, $b, $($last,)* "\n",
            $op, " v", $a2, $a, ", v", $b2, $b, $($last,)* "\n",
            $op, " v", $a3, $a, ", v", $b3, $b, $($last,)* "\n",
        )
    };
}
pub(super) use each;
