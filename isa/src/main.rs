mod device;
mod spirv;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
fn main() -> Result<()> {
    let d = device::Device::open()?.ok_or("none")?;
    println!("{} | {} | {:?} | {:?}", d.name, d.driver, d.facts, d.limits);
    let out = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    for w in std::env::args().skip(2) {
        for p in ropewalk::workload::named(&w)?.plans(&d.limits)? {
            println!("{w} {} {}", p.label(), p.tuning());
            let m = spirv::Module::parse(p.wgsl(ropewalk::Target::Native))?;
            for e in p.entries() {
                let s = m.write(e, p.tuning().checks, &d.facts)?;
                let c = d.compile(&m, &s, e)?;
                println!("  {e} {:?}", c.statistics);
                for (n, t) in &c.listings { println!("    {n} {}", t.len()); std::fs::write(out.join(format!("{w}.{e}.{}", n.replace(['/', ' '], "_"))), t)?; }
            }
        }
    }
    Ok(())
}
