//! `anji-devnet`: the people of the devnet. It knows the network only as the world does: gRPC and files.

mod generate;
mod orders;

fn main() -> anyhow::Result<()> {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(20_260_101);
    let (shoppers, orders) = generate::generate(seed);
    std::fs::write("devnet/orders.csv", orders::to_text(orders::ORDERS_HEADER, &orders))?;
    std::fs::write("devnet/shoppers.csv", orders::to_text(orders::SHOPPERS_HEADER, &shoppers))?;
    Ok(())
}
