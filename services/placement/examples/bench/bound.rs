//! The least that the instances of a moment could do with: their volume, as if they were a liquid.
//!
//! With machines of one shape it is the greater of the two quotients of demand and capacity, each rounded up. With several it
//! is the cheapest mix of them that has the CPU and the memory, not rounded: a linear program of two constraints, so that no more than
//! two shapes are in an optimum.

#![expect(clippy::cast_precision_loss, reason = "amounts below 2^52")]

use crate::nodes::Shape;

/// What a machine of this shape counts as: its cores, of 96.
pub(crate) fn cost(shape: Shape) -> f64 {
    shape.cpu_millis as f64 / 96_000.0
}

/// What the cheapest machines for so much would cost. See the module.
pub(crate) fn lower_bound(shapes: &[Shape], cpu_millis: u64, memory_mib: u64) -> f64 {
    if let [shape] = shapes {
        let count = cpu_millis.div_ceil(shape.cpu_millis).max(memory_mib.div_ceil(shape.memory_mib));
        return count as f64 * cost(*shape);
    }
    let (cpu, memory) = (cpu_millis as f64, memory_mib as f64);
    let one =
        shapes.iter().map(|shape| (cpu / shape.cpu_millis as f64).max(memory / shape.memory_mib as f64) * cost(*shape));
    let two = shapes.iter().enumerate().flat_map(|(at, a)| shapes[at + 1..].iter().map(move |b| (a, b)));
    let two = two.filter_map(|(a, b)| {
        let (a_cpu, a_memory, b_cpu, b_memory) =
            (a.cpu_millis as f64, a.memory_mib as f64, b.cpu_millis as f64, b.memory_mib as f64);
        let determinant = a_cpu * b_memory - b_cpu * a_memory;
        if determinant == 0.0 {
            return None;
        }
        let of_a = (cpu * b_memory - b_cpu * memory) / determinant;
        let of_b = (a_cpu * memory - cpu * a_memory) / determinant;
        (of_a >= 0.0 && of_b >= 0.0).then(|| of_a * cost(*a) + of_b * cost(*b))
    });
    one.chain(two).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
    }

    #[test]
    fn of_one_shape_it_is_the_larger_quotient_rounded_up() {
        let shapes = [Shape::new(96, 256)];
        near(lower_bound(&shapes, 0, 0), 0.0);
        near(lower_bound(&shapes, 1, 1), 1.0);
        near(lower_bound(&shapes, 96_000, 256 * 1_024), 1.0);
        near(lower_bound(&shapes, 96_001, 1), 2.0);
        near(lower_bound(&shapes, 1, 600 * 1_024), 3.0);
    }

    #[test]
    fn of_several_it_is_their_cheapest_mix() {
        let shapes = [Shape::new(96, 256), Shape::new(64, 256), Shape::new(32, 128)];
        // One of the first and one of the second, to the last core.
        near(lower_bound(&shapes, 160_000, 512 * 1_024), cost(shapes[0]) + cost(shapes[1]));
        // Nothing but CPU: all have equally much of it for what they count.
        near(lower_bound(&shapes, 192_000, 1), 2.0);
        // Nothing but memory: the first has least of it.
        near(lower_bound(&shapes, 1, 512 * 1_024), 2.0 * cost(shapes[1]));
    }
}
