// f32 in integers: products, sums and quotients rounded to nearest even, subnormals, infinities and NaN included, so that every device gets the
// bits that the host gets. In floats none of it would be certain: WGSL's quotients err by 2.5 units, a product and a sum may be fused, subnormals
// flushed. Numbers are the bits of f32; NaN that are made here are 0x7fc00000.

fn size4(x: vec4<u32>) -> vec4<u32> { return x & vec4<u32>(0x7fffffffu); }

// Sizes that are finite, as m 2^e with the leading bit of m at 23; m is 0 for 0.
struct Apart4 { m: vec4<u32>, e: vec4<i32> }
fn apart4(size: vec4<u32>) -> Apart4 {
    let field = size >> vec4<u32>(23u);
    let small = field == vec4<u32>(0u);
    let shift = select(vec4<u32>(0u), countLeadingZeros(size) - vec4<u32>(8u), small);   // 24 for 0
    let m = select((size & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u), size << shift, small);
    return Apart4(m, select(vec4<i32>(field), vec4<i32>(1) - vec4<i32>(shift), small) - vec4<i32>(150));
}

// m 2^e, rounded; m is at most 2^30, or nothing of it is cut off below a subnormal's unit.
fn rounded4(sign: vec4<u32>, m: vec4<u32>, e: vec4<i32>) -> vec4<u32> {
    let exponent = max(e + vec4<i32>(31) - vec4<i32>(countLeadingZeros(m)), vec4<i32>(-126));
    let shift = exponent - vec4<i32>(23) - e;
    let right = vec4<u32>(clamp(shift, vec4<i32>(0), vec4<i32>(31)));
    let left = vec4<u32>(clamp(-shift, vec4<i32>(0), vec4<i32>(31)));
    let half = (vec4<u32>(1u) << right) >> vec4<u32>(1u);
    let even = (m >> right) & vec4<u32>(1u);
    let up = select(half - vec4<u32>(1u) + even, vec4<u32>(0u), right == vec4<u32>(0u));
    let units = ((m + up) >> right) << left;
    let bits = min((vec4<u32>(exponent + vec4<i32>(126)) << vec4<u32>(23u)) + units, vec4<u32>(0x7f800000u));
    return sign | select(bits, vec4<u32>(0u), m == vec4<u32>(0u));
}

// x y.
fn product4(x: vec4<u32>, y: vec4<u32>) -> vec4<u32> {
    let sign = (x ^ y) & vec4<u32>(0x80000000u);
    let a = apart4(size4(x));
    let b = apart4(size4(y));
    // 24 bits by 24, in halves of 12; of the lower 20 bits of the product whether there is any
    let low12 = vec4<u32>(0xfffu);
    let by12 = vec4<u32>(12u);
    let middle = (a.m >> by12) * (b.m & low12) + (a.m & low12) * (b.m >> by12);
    let low = (a.m & low12) * (b.m & low12) + ((middle & low12) << by12);
    let high = (a.m >> by12) * (b.m >> by12) + (middle >> by12) + (low >> vec4<u32>(24u));
    let any = select(vec4<u32>(0u), vec4<u32>(1u), (low & vec4<u32>(0xfffffu)) != vec4<u32>(0u));
    let m = (high << vec4<u32>(4u)) | ((low >> vec4<u32>(20u)) & vec4<u32>(15u)) | any;
    let finite = rounded4(sign, m, a.e + b.e + vec4<i32>(20));
    let most = max(size4(x), size4(y));
    let beyond = most >= vec4<u32>(0x7f800000u);
    let none = (most > vec4<u32>(0x7f800000u)) | (min(size4(x), size4(y)) == vec4<u32>(0u));
    return select(finite, select(sign | vec4<u32>(0x7f800000u), vec4<u32>(0x7fc00000u), none), beyond);
}

// x + y.
fn sum4(x: vec4<u32>, y: vec4<u32>) -> vec4<u32> {
    let x_first = size4(x) >= size4(y);
    let first = select(y, x, x_first);
    let second = select(x, y, x_first);
    let a = apart4(size4(first));
    let b = apart4(size4(second));
    let shift = vec4<u32>(clamp(a.e - b.e, vec4<i32>(0), vec4<i32>(31)));
    let whole = b.m << vec4<u32>(6u);
    let cut = whole >> shift;
    let rest = select(vec4<u32>(0u), vec4<u32>(1u), (cut << shift) != whole);
    let alike = ((x ^ y) & vec4<u32>(0x80000000u)) == vec4<u32>(0u);
    let m = (a.m << vec4<u32>(6u)) + select(vec4<u32>(0u) - (cut | rest), cut | rest, alike);
    let sign = first & vec4<u32>(0x80000000u);
    let finite = rounded4(select(sign, vec4<u32>(0u), (m == vec4<u32>(0u)) & !alike), m, a.e - vec4<i32>(6));
    let infinity = vec4<u32>(0x7f800000u);
    let none = (size4(first) > infinity) | ((size4(second) == infinity) & !alike);
    return select(finite, select(first, vec4<u32>(0x7fc00000u), none), size4(first) >= infinity);
}

// x / y, y not 0: 27 bits of it one by one, and whether there are more.
fn quotient(x: u32, y: u32) -> u32 {
    let sign = (x ^ y) & 0x80000000u;
    let sizes = size4(vec4<u32>(x, y, x, y));
    let parts = apart4(sizes);
    var rest = parts.m.x;
    var bits = 0u;
    for (var i = 0u; i < steps(27u); i++) {
        bits = bits << 1u;
        if (rest >= parts.m.y) {
            rest -= parts.m.y;
            bits |= 1u;
        }
        rest = rest << 1u;
    }
    if (sizes.x > 0x7f800000u || sizes.y > 0x7f800000u || (sizes.x == 0x7f800000u && sizes.y == 0x7f800000u)) { return 0x7fc00000u; }
    if (sizes.x == 0x7f800000u) { return sign | 0x7f800000u; }
    if (sizes.y == 0x7f800000u) { return sign; }
    let m = (bits << 1u) | select(0u, 1u, rest != 0u);
    return rounded4(vec4<u32>(sign), vec4<u32>(m), vec4<i32>(parts.e.x - parts.e.y - 27)).x;
}
// 1 / d, 0 for 0.
fn inverse_of(d: u32) -> u32 {
    if ((d & 0x7fffffffu) == 0u) { return 0u; }
    return quotient(0x3f800000u, d);
}

// The size of a number as an integer, towards 0: of NaN 0, from 4096 on that.
fn whole4(x: vec4<u32>) -> vec4<u32> {
    let size = min(size4(x), vec4<u32>(0x45800000u));
    let m = (size & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let number = m >> min(vec4<u32>(150u) - (size >> vec4<u32>(23u)), vec4<u32>(31u));
    return select(number, vec4<u32>(0u), size4(x) > vec4<u32>(0x7f800000u));
}
// The same to the nearest, halves away from 0.
fn nearest4(x: vec4<u32>) -> vec4<u32> {
    let size = min(size4(x), vec4<u32>(0x45800000u));
    let m = (size & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let halves = m >> min(vec4<u32>(149u) - (size >> vec4<u32>(23u)), vec4<u32>(31u));
    return select((halves + vec4<u32>(1u)) >> vec4<u32>(1u), vec4<u32>(0u), size4(x) > vec4<u32>(0x7f800000u));
}
// An integer with a number's sign, as that of i8 next to it.
fn signed4(x: vec4<u32>, number: vec4<u32>) -> vec4<i32> {
    let below = -vec4<i32>(min(number, vec4<u32>(128u)));
    return select(vec4<i32>(min(number, vec4<u32>(127u))), below, (x & vec4<u32>(0x80000000u)) != vec4<u32>(0u));
}
